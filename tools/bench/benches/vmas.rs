//! The workloads of the table, measured with criterion: `cargo bench -p kvma-bench --bench vmas`,
//! with the name of one operation as its argument.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kvma_bench::{BTree, GapIndex, Kvma, Load, MemorySet, Nodit, Peer, RangeMap, Workload};

fn bench<P: Peer>(criterion: &mut Criterion, load: Load) {
    let mut group = criterion.benchmark_group(load.name());
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    for count in [1_000, 10_000, 100_000] {
        let mut work = None;
        group.bench_function(BenchmarkId::new(P::NAME, count), |bencher| {
            let work = work.get_or_insert_with(|| Workload::<P>::new(load, count));
            bencher.iter_custom(|times| {
                let start = Instant::now();
                black_box(work.run(times));
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    for load in Load::ALL {
        bench::<Kvma>(criterion, load);
        bench::<BTree<GapIndex>>(criterion, load);
        bench::<RangeMap>(criterion, load);
        bench::<Nodit>(criterion, load);
        bench::<MemorySet>(criterion, load);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
