//! What an exploration of a template's configurations finds: deadlocks, livelocks, ends that cannot be reached.
