//! axaddrspace's names and types over `kvma_axaddrspace`.

use ax_memory_addr::PhysAddr;
use axvm_types::GuestPhysAddr;
pub use axvm_types::MappingFlags;
use kvma::{Error, HookError, Prot};
use kvma_axaddrspace::{AxError, NestedTable, Populate};

use crate::test_utils::MockHal;

/// Why a call was refused, as far as the tests ask.
#[derive(Debug, PartialEq)]
pub enum AddrSpaceError {
    OutOfRange {},
    Unaligned {},
    AddressOverflow {},
    MappingConflict,
    Other(AxError),
}

impl From<AxError> for AddrSpaceError {
    fn from(error: AxError) -> Self {
        match error {
            HookError::Map(Error::OutOfRange) => Self::OutOfRange {},
            HookError::Map(Error::Unaligned) => Self::Unaligned {},
            HookError::Map(Error::Overlap) => Self::MappingConflict,
            other => Self::Other(other),
        }
    }
}

/// An address space with their argument types.
pub struct AddrSpace<T: NestedTable>(kvma_axaddrspace::AddrSpace<T>);

fn number(addr: GuestPhysAddr) -> u64 {
    addr.as_usize() as u64
}

fn guest(number: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(number as usize)
}

fn host(number: u64) -> PhysAddr {
    PhysAddr::from_usize(number as usize)
}

fn prot(flags: MappingFlags) -> Prot {
    let mut prot = Prot::NONE;
    prot.set(Prot::READ, flags.contains(MappingFlags::READ));
    prot.set(Prot::WRITE, flags.contains(MappingFlags::WRITE));
    prot.set(Prot::EXEC, flags.contains(MappingFlags::EXECUTE));
    prot
}

impl<T: NestedTable> AddrSpace<T> {
    pub fn new_empty(table: T, base: GuestPhysAddr, size: usize) -> Result<Self, AddrSpaceError> {
        Ok(Self(kvma_axaddrspace::AddrSpace::new_empty(number(base), size as u64, table)?))
    }

    pub fn base(&self) -> GuestPhysAddr {
        guest(self.0.base())
    }

    pub fn end(&self) -> GuestPhysAddr {
        guest(self.0.end().unwrap())
    }

    pub fn size(&self) -> usize {
        self.0.size().unwrap() as usize
    }

    pub fn contains_range(&self, start: GuestPhysAddr, size: usize) -> bool {
        self.0.contains_range(number(start), size as u64)
    }

    pub fn map_linear(
        &mut self,
        start: GuestPhysAddr,
        to: PhysAddr,
        size: usize,
        flags: MappingFlags,
    ) -> Result<(), AddrSpaceError> {
        let paddr = to.as_usize() as u64;
        let mapped = self.0.map_linear(number(start), paddr, size as u64, prot(flags));
        match mapped {
            // Theirs tells the two ranges apart.
            Err(HookError::Map(Error::OutOfRange)) if to.as_usize().checked_add(size).is_none() => {
                Err(AddrSpaceError::AddressOverflow {})
            }
            mapped => Ok(mapped?),
        }
    }

    pub fn map_alloc(
        &mut self,
        start: GuestPhysAddr,
        size: usize,
        flags: MappingFlags,
        populate: bool,
    ) -> Result<(), AddrSpaceError> {
        let populate = if populate { Populate::Now } else { Populate::OnFault };
        Ok(self.0.map_alloc(number(start), size as u64, prot(flags), populate)?)
    }

    pub fn unmap(&mut self, start: GuestPhysAddr, size: usize) -> Result<(), AddrSpaceError> {
        Ok(self.0.unmap(number(start), size as u64)?)
    }

    pub fn clear(&mut self) {
        self.0.clear().unwrap();
    }

    pub fn handle_page_fault(&mut self, addr: GuestPhysAddr, access: MappingFlags) -> bool {
        self.0.handle_page_fault(number(addr), prot(access))
    }

    pub fn translate(&self, addr: GuestPhysAddr) -> Option<PhysAddr> {
        self.0.translate(number(addr)).map(host)
    }

    pub fn translate_and_get_limit(&self, addr: GuestPhysAddr) -> Option<(PhysAddr, usize)> {
        let (paddr, limit) = self.0.translate_and_get_limit(number(addr))?;
        Some((host(paddr), limit as usize))
    }

    /// The one call that touches memory, which is the hypervisor's affair.
    pub fn translated_byte_buffer(
        &self,
        addr: GuestPhysAddr,
        len: usize,
    ) -> Option<Vec<&'static mut [u8]>> {
        let (_, limit) = self.translate_and_get_limit(addr)?;
        if len > limit {
            return None;
        }
        let pages = (0..len).step_by(0x1000);
        let parts = pages.map(|ahead| {
            let paddr = self.translate(addr + ahead).expect("all of it is populated");
            let part = MockHal::mock_phys_to_virt(paddr).as_mut_ptr();
            // SAFETY: the frames of the tests lie in a static, and each is mapped once; the tests
            // begin at a page.
            unsafe { std::slice::from_raw_parts_mut(part, (len - ahead).min(0x1000)) }
        });
        Some(parts.collect())
    }
}
