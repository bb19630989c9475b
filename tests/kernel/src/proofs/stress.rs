use super::Ground;
pub fn run(_on: &Ground<'_>) {}
