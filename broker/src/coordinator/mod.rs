//! The group coordinators.
