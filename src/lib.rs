//! Virtual memory areas for kernels and hypervisors.
#![no_std]

pub mod linux;
