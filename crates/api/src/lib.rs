//! The resources: types, defaulting, validation and CRD generation. Pure.
