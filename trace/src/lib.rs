//! Recorded address-space traces.
#![no_std]
