//! Scenario files: what should happen, on a virtual clock.
