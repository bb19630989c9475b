//! Threads that allocate, lock, send, panic and end, and a heap that grows large.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

fn main() {
    let total = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..4u64)
        .map(|number| {
            let total = total.clone();
            thread::spawn(move || {
                let mut all = Vec::new();
                for k in 0..20_000u64 {
                    all.push(vec![k; 8]);
                    if k % 100 == 0 {
                        *total.lock().unwrap() += k;
                    }
                }
                all.iter().map(|some| some[0]).sum::<u64>() + number
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || (0..100).for_each(|number| sender.send(number).unwrap()));
    println!("{sum} {} {}", *total.lock().unwrap(), receiver.iter().sum::<i32>());
    // Four vectors that grow, and move as they do (mremap(2)): 64 MiB at the end.
    let large: Vec<_> = (0..4u64)
        .map(|number| {
            thread::spawn(move || {
                let mut all = Vec::new();
                for k in 0..4u64 << 20 {
                    all.push((k * 4 + number) as u32);
                }
                (all.len() as u64, all.iter().map(|&k| u64::from(k) / 256).sum::<u64>())
            })
        })
        .collect();
    let large = large.into_iter().map(|thread| thread.join().unwrap());
    let (len, sum) = large.fold((0, 0), |(len, sum), (l, s)| (len + l, sum + s));
    println!("{len} {sum}");
    let result = thread::spawn(|| panic!("on purpose")).join();
    println!("a thread that panics: {}", result.is_err());
}
