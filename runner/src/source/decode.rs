//! JSON records to Arrow columns.
