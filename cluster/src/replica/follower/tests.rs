//! Follower tests.
