//! The resource part of stamping and relabelling.
