//! DEFLATE (RFC 1951) read bit by bit: slow, plain, and not zlib. It holds what it reads to a window.

pub struct Puff<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
    window: usize,
    out: Vec<u8>,
    furthest: usize,
}

/// The message in a payload, after `history`, and the largest distance that it refers back.
pub fn inflate(payload: &[u8], history: &[u8], window_bits: u8) -> (Vec<u8>, usize) {
    let bytes = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut puff = Puff {
        bytes: &bytes,
        at: 0,
        window: 1 << window_bits,
        out: history.to_vec(),
        furthest: 0,
    };
    while puff.at.div_ceil(8) < bytes.len() {
        puff.block();
    }
    (puff.out.split_off(history.len()), puff.furthest)
}

/// Symbols in the order of their codes, and how many there are of each length (RFC1951§3.2.2).
struct Codes {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Codes {
    fn new(lengths: &[usize]) -> Codes {
        let mut counts = [0; 16];
        let mut symbols = vec![];
        for (length, count) in counts.iter_mut().enumerate().skip(1) {
            let of_length = (0..lengths.len()).filter(|&symbol| lengths[symbol] == length);
            symbols.extend(of_length);
            *count = lengths.iter().filter(|&&l| l == length).count();
        }
        Codes { counts, symbols }
    }
}

impl Puff<'_> {
    fn bits(&mut self, n: usize) -> usize {
        let bit = |at: usize| usize::from(self.bytes[at / 8] >> (at % 8) & 1);
        let value = (0..n).map(|i| bit(self.at + i) << i).sum();
        self.at += n;
        value
    }

    fn symbol(&mut self, codes: &Codes) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &codes.counts[1..] {
            code += self.bits(1);
            if code < first + count {
                return codes.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }

    fn block(&mut self) {
        let _is_final = self.bits(1);
        match self.bits(2) {
            0 => self.stored(),
            1 => {
                let literals = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                self.coded(&Codes::new(&literals), &Codes::new(&[5; 30]));
            }
            2 => self.dynamic(),
            _ => panic!("reserved block type"),
        }
    }

    fn stored(&mut self) {
        self.at = self.at.next_multiple_of(8);
        let (len, complement) = (self.bits(16), self.bits(16));
        assert_eq!(len ^ complement, 0xffff);
        for _ in 0..len {
            let byte = self.bits(8);
            self.out.push(byte as u8);
        }
    }

    fn dynamic(&mut self) {
        const ORDER: [usize; 19] = [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ];
        let literals = self.bits(5) + 257;
        let distances = self.bits(5) + 1;
        let count = self.bits(4) + 4;
        let mut lengths = [0; 19];
        for &symbol in &ORDER[..count] {
            lengths[symbol] = self.bits(3);
        }
        let codes = Codes::new(&lengths);
        let mut lengths = vec![];
        while lengths.len() < literals + distances {
            let (length, times) = match self.symbol(&codes) {
                16 => (*lengths.last().unwrap(), 3 + self.bits(2)),
                17 => (0, 3 + self.bits(3)),
                18 => (0, 11 + self.bits(7)),
                length => (length, 1),
            };
            lengths.extend(vec![length; times]);
        }
        let (literals, distances) = lengths.split_at(literals);
        self.coded(&Codes::new(literals), &Codes::new(distances));
    }

    fn coded(&mut self, literals: &Codes, distances: &Codes) {
        loop {
            match self.symbol(literals) {
                256 => return,
                byte @ 0..256 => self.out.push(byte as u8),
                symbol => {
                    let length = self.length(symbol - 257);
                    let symbol = self.symbol(distances);
                    let distance = self.distance(symbol);
                    self.copy(length, distance);
                }
            }
        }
    }

    fn length(&mut self, symbol: usize) -> usize {
        match symbol {
            0..8 => 3 + symbol,
            28 => 258,
            _ => {
                let extra = symbol / 4 - 1;
                3 + ((4 + symbol % 4) << extra) + self.bits(extra)
            }
        }
    }

    fn distance(&mut self, symbol: usize) -> usize {
        match symbol {
            0..4 => 1 + symbol,
            _ => {
                let extra = symbol / 2 - 1;
                1 + ((2 + symbol % 2) << extra) + self.bits(extra)
            }
        }
    }

    fn copy(&mut self, length: usize, distance: usize) {
        assert!(distance <= self.window, "past the window: {distance}");
        self.furthest = self.furthest.max(distance);
        for _ in 0..length {
            self.out.push(self.out[self.out.len() - distance]);
        }
    }
}
