//! What was removed is dropped after unlock.

use super::{Alloc, PAGE, Space, fixed, new_space};
use kvma::*;
use std::sync::{Arc, Mutex};

/// User data whose drop takes the lock of the space.
#[derive(Clone)]
struct Nosy(Arc<Mutex<Option<Arc<Space<Nosy>>>>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(space) = &*self.0.lock().unwrap() {
            space.inspect(|_| ());
        }
    }
}

impl VmaData for Nosy {
    fn split(&mut self, _: u64) -> Nosy {
        self.clone()
    }
    fn can_merge(&self, _: u64, _: &Nosy) -> bool {
        false
    }
    fn merge(&mut self, _: u64, _: Nosy) {}
    fn fork(&self) -> Nosy {
        self.clone()
    }
}

#[test]
fn user_data_is_dropped_after_unlock() {
    let alloc = Alloc::default();
    let space = Arc::new(new_space::<Nosy>(&alloc));
    let nosy = Nosy(Arc::new(Mutex::new(Some(space.clone()))));
    let request = |page, pages| fixed(page, pages, Prot::RW).with_data(nosy.clone());
    for n in 0..100 {
        space.map(request(10 + 2 * n, 1), &mut NoHooks).unwrap();
    }
    space.map(request(5, 5), &mut NoHooks).unwrap();
    space.map(request(7, 1), &mut NoHooks).unwrap();
    space.unmap(8 * PAGE, PAGE, &mut NoHooks).unwrap();
    let claim = space.claim(Placement::Fixed(6 * PAGE), PAGE, nosy.clone(), &mut NoHooks).unwrap();
    claim.commit(Attrs::new(Prot::RW), nosy.clone(), &mut NoHooks).unwrap();
    drop(space.claim(Placement::Fixed(6 * PAGE), PAGE, nosy.clone(), &mut NoHooks).unwrap());
    space.clear(&mut NoHooks).unwrap();
    nosy.0.lock().unwrap().take();
}
