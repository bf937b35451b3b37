//! Model transfer: object stores to a content-addressed cache.
