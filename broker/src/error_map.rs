//! The one map from our errors to Kafka's error codes.
