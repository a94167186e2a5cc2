//! The mask stage.
