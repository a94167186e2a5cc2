//! The walk over every value of a request.
