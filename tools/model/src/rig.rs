//! A `VmMap` and its model, side by side.

use kvma::{AddrSpace, Error, HookError, PageSize, VmMap};

use crate::compare::compare;
use crate::config::Config;
use crate::ensure::{ensure, ensure_eq};
use crate::hook_order::{check_calls, check_pages, check_rollback};
use crate::op::Op;
use crate::recorder::{Recorder, Refusal};
use crate::space::Space;
use crate::tokens::{Tokens, Watching};
use crate::world::{Map, World, counts};

/// The faults that are injected into one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The number of allocations that succeed before one fails.
    pub alloc: Option<u64>,
    /// The number of calls of `prepare` that succeed before one is refused.
    pub prepare: Option<u64>,
}

impl Faults {
    /// No faults.
    pub const NONE: Self = Self { alloc: None, prepare: None };
}

/// The end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It did what the model does.
    Normal,
    /// A fault was met, and nothing changed.
    Faulted,
}

/// A map behind a lock and its model, and what watches over the map's nodes and user data.
#[derive(Debug)]
pub struct Rig {
    space: AddrSpace<Map>,
    world: World,
    /// The number of operations so far.
    steps: u64,
}

impl Rig {
    /// Makes an empty map and an empty model.
    ///
    /// # Panics
    ///
    /// If `config` is not a space.
    pub fn new(config: Config) -> Self {
        let world = World::new(config);
        let page = PageSize::new(config.page).expect("a page size");
        let bounds = config.start..=config.last();
        let map = VmMap::new(bounds, page, world.alloc.clone()).expect("a space");
        Self { space: AddrSpace::new(map), world, steps: 0 }
    }

    /// Returns the model.
    pub fn model(&self) -> &Space {
        &self.world.model
    }

    /// Returns the state as a text: two rigs with the same one behave alike from now on.
    pub fn state(&self) -> String {
        let World { model, saved, .. } = &self.world;
        let saved = saved.as_ref().map(|(_, saved)| saved.vmas());
        format!("{:?} {:?} {saved:?}", model.vmas(), self.world.claim_ranges())
    }

    /// Does `op` on both, with `faults` injected into the map's, and compares everything.
    ///
    /// # Errors
    ///
    /// A description of what differs.
    pub fn step(&mut self, op: &Op, faults: Faults) -> Result<Completion, String> {
        let mut next = self.world.model.clone();
        let expected = self.world.on_model(&mut next, op);
        if let Some(successes) = faults.alloc {
            self.world.alloc.fail_after(successes);
        }
        let mut hooks = Recorder::new();
        if let Some(successes) = faults.prepare {
            hooks.refuse_after(successes);
        }
        // Operations take hooks as well as an update: both ways are tried, in turn.
        self.steps += 1;
        let by_update = !self.steps.is_multiple_of(2);
        let tokens = Tokens::take(&self.space, &self.world.model, by_update);
        let world = &mut self.world;
        let (result, during_flush) = if by_update {
            let mut watching = Watching::new(&mut hooks, &self.space, world.config());
            let result =
                self.space.update(0, &mut watching, |map, update| world.on_map(map, op, update))?;
            (result, watching.during_flush())
        } else {
            (world.on_map(&mut self.space.get_mut(), op, &mut hooks)?, None)
        };
        let out_of_memory = !self.world.alloc.call_off() && faults.alloc.is_some();
        let refused = !hooks.call_off() && faults.prepare.is_some();
        let completion = if out_of_memory || refused {
            let want =
                if refused { HookError::Hook(Refusal) } else { HookError::Map(Error::OutOfMemory) };
            ensure_eq!(result, Err(want), "result of a faulted operation");
            check_rollback(&hooks.calls)?;
            tokens.check(&self.space, &self.world.model, op, &[])?;
            Completion::Faulted
        } else {
            match expected {
                Ok((value, edits)) => {
                    ensure_eq!(result, Ok(value), "result");
                    if *op == Op::Restore {
                        check_pages(&hooks.calls, &edits, self.world.config().page)?;
                    } else {
                        check_calls(&hooks.calls, &edits)?;
                    }
                    if let Some(during_flush) = during_flush {
                        during_flush.check(&self.world.model, &edits)?;
                    }
                    self.world.model = next;
                    tokens.check(&self.space, &self.world.model, op, &edits)?;
                }
                Err(errors) => {
                    ensure!(
                        matches!(result, Err(HookError::Map(error)) if errors.contains(&error)),
                        "is {result:x?}, should be one of {errors:?}"
                    );
                    ensure!(hooks.calls.is_empty(), "hooks of an error: {:?}", hooks.calls);
                    tokens.check(&self.space, &self.world.model, op, &[])?;
                }
            }
            Completion::Normal
        };
        self.compare()?;
        Ok(completion)
    }

    /// Compares everything that can be seen, and counts nodes and user data.
    ///
    /// # Errors
    ///
    /// A description of what differs.
    pub fn compare(&self) -> Result<(), String> {
        let (vmas, pages) = self.space.inspect(|map| {
            compare(map, &self.world.model)?;
            Ok::<_, String>(counts(map))
        })?;
        let (saved_vmas, saved_pages) = self.world.saved_counts();
        ensure_eq!(
            (self.world.ledger.tags(), self.world.ledger.pages()),
            ((vmas + saved_vmas) as i64, (pages + saved_pages) as i64),
            "user data alive"
        );
        let maps = 1 + usize::from(self.world.saved.is_some());
        let nodes = vmas + self.world.model.claim_count() + saved_vmas + maps;
        ensure_eq!(self.world.alloc.inner().in_use(), nodes, "nodes in use");
        Ok(())
    }

    /// Drops the map, and checks that nothing is left of it.
    ///
    /// # Errors
    ///
    /// A description of what is left.
    pub fn finish(self) -> Result<(), String> {
        let World { alloc, ledger, saved, .. } = self.world;
        drop((self.space, saved));
        ensure_eq!((ledger.tags(), ledger.pages()), (0, 0), "user data left");
        ensure_eq!(alloc.inner().in_use(), 0, "nodes left");
        Ok(())
    }
}
