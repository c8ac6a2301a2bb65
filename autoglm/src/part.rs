//! What a user says and shows.

/// A piece of a user's turn.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Part {
    /// Text. It enters as text: whatever it contains, it cannot forge a turn marker or a picture.
    Text(String),
    /// An encoded picture: the bytes of a PNG, JPEG or WebP file.
    Image(Vec<u8>),
    /// A picture as it comes from a screen, so that nobody need encode and decode it: 8-bit RGB, top row
    /// first.
    Pixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// (height, width, 3).
        rgb: Vec<u8>,
    },
    /// An encoded sound: the bytes of a WAV, FLAC or MP3 file.
    Audio(Vec<u8>),
    /// A sound as it comes from a microphone: one channel, full scale at ±1.
    Samples {
        /// Samples per second.
        rate: u32,
        /// The samples.
        samples: Vec<f32>,
    },
}

impl Part {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A picture: the bytes of a PNG, JPEG or WebP file.
    #[must_use]
    pub fn image(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Image(bytes.into())
    }

    /// A picture as it comes from a screen: (height, width, 3), 8-bit RGB, top row first.
    #[must_use]
    pub fn pixels(width: u32, height: u32, rgb: impl Into<Vec<u8>>) -> Self {
        Self::Pixels { width, height, rgb: rgb.into() }
    }

    /// A sound: the bytes of a WAV, FLAC or MP3 file.
    #[must_use]
    pub fn audio(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Audio(bytes.into())
    }

    /// A sound as it comes from a microphone: one channel of so many samples per second, full scale at ±1.
    #[must_use]
    pub fn samples(rate: u32, samples: impl Into<Vec<f32>>) -> Self {
        Self::Samples { rate, samples: samples.into() }
    }
}
