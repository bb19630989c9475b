//! How a signal reaches its handler, and how the handler returns.

use alloc::sync::Arc;

use kvma::Errno;

use super::{
    AlternateStack, DEFAULT, IGNORE, Info, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART,
    SIGSEGV, SS_DISABLE, SS_ONSTACK, Set, Take,
};
use crate::arch::signal_frame;
use crate::arch::user::UserContext;
use crate::user::calls::{Interrupted, Restart};
use crate::user::process::Exit;
use crate::user::thread::Thread;

/// Lets the thread take its signals, right before it goes back to user mode. `interrupted` is the
/// call that a signal has interrupted.
pub fn deliver(thread: &Arc<Thread>, context: &mut UserContext, interrupted: Option<Interrupted>) {
    let mut interrupted = interrupted;
    while let Some(info) = thread.next_signal(Take::Yes) {
        let action = thread.process.actions.lock().get(info.signal);
        match action.handler {
            _ if thread.process.ending().is_some() => return,
            DEFAULT if thread.process.actions.lock().ignores(info.signal) => {}
            IGNORE => {}
            DEFAULT => return thread.process.end(Exit::Signal(info.signal)),
            _ => {
                if let Some(call) = interrupted.take()
                    && action.flags & SA_RESTART != 0
                    && call.restart == Restart::AfterHandlers
                {
                    context.repeat_call(call.number);
                }
                if enter(thread, context, &info).is_err() {
                    return thread.process.end(Exit::Signal(SIGSEGV));
                }
            }
        }
    }
    // No handler has run, so the call was interrupted for nothing.
    if let Some(call) = interrupted {
        context.repeat_call(call.number);
    }
    if let Some(mask) = thread.signals.lock().saved_mask.take() {
        thread.signals.lock().mask = mask;
    }
}

/// Lets the thread take a signal for something that it has done itself, such as a page fault. If it
/// cannot take it, its process ends, and a note says where.
pub fn force(thread: &Arc<Thread>, context: &UserContext, info: Info) {
    let handler = thread.process.actions.lock().get(info.signal).handler;
    let blocked = thread.signals.lock().mask.contains(info.signal);
    if blocked || handler == DEFAULT || handler == IGNORE {
        crate::println!(
            "process {} ends by signal {}, for {:#x}: at {:#x}, stack pointer {:#x}",
            thread.process.id,
            info.signal,
            info.origin,
            context.instruction(),
            context.stack_pointer(),
        );
        thread.process.end(Exit::Signal(info.signal));
    } else {
        thread.signals.lock().pending.insert(info.signal, info);
    }
}

/// Calls the handler.
fn enter(thread: &Arc<Thread>, context: &mut UserContext, info: &Info) -> Result<(), Errno> {
    let memory = thread.process.memory().ok_or(Errno::EFAULT)?;
    let mut actions = thread.process.actions.lock();
    let action = actions.get(info.signal);
    if action.flags & SA_RESETHAND != 0 {
        actions.set(info.signal, super::Action::default());
    }
    drop(actions);
    let mut signals = thread.signals.lock();
    let mask = signals.saved_mask.take().unwrap_or(signals.mask);
    let mut stack = signals.stack;
    let stack_pointer = context.stack_pointer();
    let top = if action.flags & SA_ONSTACK != 0
        && stack.flags & SS_DISABLE == 0
        && !stack.holds(stack_pointer)
    {
        stack.start + stack.len
    } else {
        signal_frame::below(stack_pointer)
    };
    if stack.holds(stack_pointer) {
        stack.flags |= SS_ONSTACK;
    }
    let mut during = mask.0 | action.mask.0;
    if action.flags & SA_NODEFER == 0 {
        during |= Set::of(info.signal).0;
    }
    signals.mask = Set(during).blockable();
    drop(signals);
    signal_frame::push(&memory, context, &action, info, top, mask, stack)
}

/// Goes back to what a handler has interrupted: rt_sigreturn(2).
pub fn return_from_handler(thread: &Arc<Thread>, context: &mut UserContext) -> Result<(), Errno> {
    let memory = thread.process.memory().ok_or(Errno::EFAULT)?;
    let (mask, stack) = signal_frame::pop(&memory, context)?;
    let mut signals = thread.signals.lock();
    signals.mask = mask.blockable();
    let AlternateStack { flags, .. } = stack;
    signals.stack = AlternateStack { flags: flags & !SS_ONSTACK, ..stack };
    Ok(())
}
