//! The slow, obvious model.
