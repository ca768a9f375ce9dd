//! Behaviour of groups.
