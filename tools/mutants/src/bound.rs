//! How far what a sample shows can be from the truth.

/// Returns the rate that `hits` of `count` exclude with 95 % confidence (Clopper and Pearson's).
pub fn upper(hits: usize, count: usize) -> f64 {
    if hits >= count {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let rate = f64::midpoint(low, high);
        if at_most(hits, count, rate) > 0.05 { low = rate } else { high = rate }
    }
    high
}

/// Returns the probability of at most `hits` of `count`, each of which has the probability `rate`.
fn at_most(hits: usize, count: usize, rate: f64) -> f64 {
    let mut term = (count as f64 * (-rate).ln_1p()).exp();
    let mut sum = term;
    for hit in 0..hits {
        term *= (count - hit) as f64 / (hit + 1) as f64 * rate / (1.0 - rate);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::upper;

    #[test]
    fn bounds_are_those_of_the_tables() {
        for (hits, count, rate) in [(0, 60, 0.0487), (1, 60, 0.0766), (2, 20, 0.2826)] {
            assert!((upper(hits, count) - rate).abs() < 2e-4, "{hits} of {count}");
        }
        assert_eq!((upper(0, 0), upper(5, 5)), (1.0, 1.0));
    }
}
