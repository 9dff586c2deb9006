//! PLED.
