//! Where cargo puts the module.
//!
//! For a crate that has this one among its dependencies (of any kind), cargo builds the library and the module at once,
//! into `target/<profile>/deps`, under a name without a hash. `cargo build -p keyreeve-faultmod` also links it into
//! `target/<profile>`, where it may be older. Tests and examples run from `deps` and `examples`, binaries from above.

use std::path::{Path, PathBuf};

const NAME: &str = "libkeyreeve_faultmod.so";

#[derive(Debug, thiserror::Error)]
#[error("{NAME} is not built; looked in {}", listed(.looked_in))]
pub struct NotBuilt {
    pub looked_in: Vec<PathBuf>,
}

/// The module that was built with the running program: a test, a benchmark, an example or a binary that cargo built and
/// whose crate depends on this one.
pub fn module_path() -> Result<PathBuf, NotBuilt> {
    let program = std::env::current_exe().unwrap_or_default();
    let looked_in = places(&program);
    match looked_in
        .iter()
        .map(|place| place.join(NAME))
        .find(|path| path.is_file())
    {
        Some(path) => Ok(path),
        None => Err(NotBuilt { looked_in }),
    }
}

/// `deps` of the profile first: it is what cargo keeps up to date.
fn places(program: &Path) -> Vec<PathBuf> {
    let beside: Vec<&Path> = program.ancestors().skip(1).take(2).collect();
    let deps = beside.iter().map(|place| place.join("deps"));
    deps.chain(beside.iter().map(|place| place.to_path_buf())).collect()
}

fn listed(places: &[PathBuf]) -> String {
    let names: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_an_example_and_a_binary_all_look_into_deps() {
        let deps = PathBuf::from("/p/target/debug/deps");
        for program in ["deps/flow-1f", "examples/sign", "keyreeve"] {
            let places = places(&Path::new("/p/target/debug").join(program));
            assert!(places.contains(&deps), "{program}: {places:?}");
        }
    }
}
