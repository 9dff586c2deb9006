//! Templates from XState v5 machines.
