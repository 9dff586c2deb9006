//! PLED's workers: the async shells around the pure core.

pub mod action;
