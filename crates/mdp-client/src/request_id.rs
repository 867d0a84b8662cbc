//! Makes the ids of requests.

use mdp_wire::RequestId;

/// Makes the ids of one client.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// Tells clients apart.
    seed: u64,
    last: u64,
}

impl RequestIds {
    /// `seed` tells clients apart.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, last: 0 }
    }

    pub(crate) const fn next_id(&mut self) -> RequestId {
        self.last = self.last.wrapping_add(1);
        RequestId::new(self.seed, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_the_requests_of_one_client() {
        let mut ids = RequestIds::new(0x00c0_ffee);

        assert_eq!(ids.next_id().to_string(), "c0ffee-1");
        assert_eq!(ids.next_id().to_string(), "c0ffee-2");
    }
}
