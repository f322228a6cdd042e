//! Chance that a seed repeats: a number from seed, rule, function and call, from nothing else. Part of the schedule format.

use crate::function::Function;

/// Even over all 64 bits. `rule` is the rule's place in the schedule, so that two rules with a chance are independent.
pub fn roll(seed: u64, rule: usize, function: Function, nth: u64) -> u64 {
    let mut state = mix(seed);
    for byte in function.name().bytes() {
        state = mix(state ^ u64::from(byte));
    }
    mix(mix(state ^ rule as u64) ^ nth)
}

/// Whether a roll hits a chance from 0 to 1.
pub fn hits(roll: u64, chance: f64) -> bool {
    // The upper 53 bits as a fraction in [0, 1): all that a double holds exactly.
    ((roll >> 11) as f64) / ((1u64 << 53) as f64) < chance
}

/// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_hits_about_as_often_as_it_says() {
        let hit = (1..=100_000)
            .filter(|nth| hits(roll(1, 0, Function::C_Sign, *nth), 0.1))
            .count();
        assert!((9_500..=10_500).contains(&hit), "{hit} of 100,000");
        assert!(!hits(0, 0.0) && hits(u64::MAX, 1.0));
    }

    #[test]
    fn seed_rule_function_and_call_each_change_the_roll_and_nothing_else_does() {
        let one = roll(1, 0, Function::C_Sign, 1);
        assert_eq!(one, roll(1, 0, Function::C_Sign, 1));
        for other in [
            roll(2, 0, Function::C_Sign, 1),
            roll(1, 1, Function::C_Sign, 1),
            roll(1, 0, Function::C_Verify, 1),
            roll(1, 0, Function::C_Sign, 2),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_rolls_of_a_published_seed_stay_what_they_are() {
        // A seed in a bug report must mean the same in the next version.
        assert_eq!(roll(42, 0, Function::C_Sign, 1), 2_066_931_550_211_279_289);
    }
}
