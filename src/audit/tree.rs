//! The Merkle tree over a log's leaves, as far as its root needs it (RFC 6962, section 2.1).

use aws_lc_rs::digest;

/// Roots of the complete subtrees that the leaves so far fall into, largest first: all that a root needs, whatever the length.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    leaves: u64,
    subtrees: Vec<[u8; 32]>,
}

impl Tree {
    /// Adds the next leaf (`record::leaf`).
    pub fn push(&mut self, leaf: [u8; 32]) {
        let mut node = leaf;
        // Each set bit of the size is a complete subtree; adding one carries like binary addition.
        for _ in 0..self.leaves.trailing_ones() {
            let left = self.subtrees.pop().expect("one subtree per bit of the size");
            node = parent(&left, &node);
        }
        self.subtrees.push(node);
        self.leaves += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.leaves
    }

    /// Root over all leaves so far; SHA-256 of nothing if there are none.
    pub fn root(&self) -> [u8; 32] {
        let mut right_to_left = self.subtrees.iter().rev();
        match right_to_left.next() {
            Some(last) => right_to_left.fold(*last, |right, left| parent(left, &right)),
            None => finish(digest::Context::new(&digest::SHA256)),
        }
    }
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    finish(context)
}

fn finish(context: digest::Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::leaf;

    /// RFC 6962, section 2.1, word for word.
    fn by_definition(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => finish(digest::Context::new(&digest::SHA256)),
            [only] => *only,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                parent(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_published_root_of_two_comes_out() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/formats-v1.json")).unwrap();
        let mut tree = Tree::default();
        tree.push(leaf(br#"{"seq":0}"#));
        tree.push(leaf(br#"{"seq":1}"#));
        let root = data_encoding::HEXLOWER.encode(&tree.root());
        assert_eq!(root, vectors["audit"]["root_of_two"].as_str().unwrap());
    }

    #[test]
    fn roots_of_all_sizes_are_those_of_the_definition() {
        let leaves: Vec<_> = (0..70_u8).map(|index| leaf(&[index])).collect();
        let mut tree = Tree::default();
        for size in 0..=leaves.len() {
            assert_eq!(tree.root(), by_definition(&leaves[..size]), "{size}");
            if let Some(next) = leaves.get(size) {
                tree.push(*next);
            }
        }
        assert_eq!(tree.size(), 70);
    }
}
