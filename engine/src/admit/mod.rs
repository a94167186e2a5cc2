//! The admit stage.
