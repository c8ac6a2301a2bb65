//! A sound file into one channel of samples, within limits.
//!
//! Whole numbers become floats as libsndfile makes them: divided by 2^(bits − 1), so that 16-bit −32768 is −1
//! exactly. Channels are averaged. What a file announces is checked before anything is reserved for it, and
//! what it holds is counted while it is decoded.

use std::io::{Cursor, ErrorKind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Reason;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

use crate::error::undecodable;
use crate::sound::check_rate;
use crate::{Error, Result, Sound};

mod riff;

/// How large a sound may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Channels.
    pub channels: u64,
    /// Seconds of sound.
    pub seconds: u64,
    /// Samples of a channel, however many of them a second has.
    pub samples: u64,
}

impl Default for Limits {
    /// 64 MiB, 8 channels, the 21 windows of 30 seconds after which transformers' `GlmAsrProcessor` cuts a sound off,
    /// and as many samples as they have at 48 kHz: 121 MB of floats.
    fn default() -> Self {
        Self { bytes: 64 << 20, channels: 8, seconds: 630, samples: 630 * 48_000 }
    }
}

/// Reads a WAV (8 to 32-bit integers, floats), FLAC or MP3 file.
///
/// # Errors
/// - [`Error::Empty`] and [`Error::UnknownFormat`] for bytes that are no sound file.
/// - [`Error::TooLarge`] and [`Error::SampleRate`] for one beyond `limits`.
/// - [`Error::Truncated`] for one that ends before its header says.
/// - [`Error::NotANumber`] for floats that are none.
/// - [`Error::Undecodable`] for anything else that contradicts the format.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Sound> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    check("bytes", bytes.len() as u64, limits.bytes)?;
    if !known(bytes) {
        return Err(Error::UnknownFormat);
    }
    // The reader wants to own its source.
    let bytes = if bytes.starts_with(b"RIFF") { riff::plain(bytes, limits)? } else { bytes.to_vec() };
    // A reader that could go back would guess the length of an MP3 file that does not tell it, and cut it there.
    let source = ReadOnlySource::new(Cursor::new(bytes));
    let source = MediaSourceStream::new(Box::new(source), Default::default());
    let probe = symphonia::default::get_probe();
    let format = probe.probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default());
    let mut format = format.map_err(undecodable)?;
    let mut track = Track::of(&*format, limits)?;
    while let Some(packet) = next(&mut *format, &track)? {
        if packet.track_id == track.id {
            track.decode(&packet, limits)?;
        }
    }
    track.finish()
}

/// Whether the file begins as one of the formats that are read. The prober would look for the beginning of a
/// stream anywhere in the first megabyte, and find MP3 frames in pictures.
fn known(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let mpeg = bytes.len() > 1 && bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0;
    begins(b"RIFF") || begins(b"fLaC") || begins(b"ID3") || mpeg
}

fn check(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit { Err(Error::TooLarge { what, got, limit }) } else { Ok(()) }
}

/// The next packet, or nothing at the end.
fn next(format: &mut dyn FormatReader, track: &Track) -> Result<Option<symphonia::core::packet::Packet>> {
    match format.next_packet() {
        Ok(packet) => Ok(packet),
        // Some readers report the end of the file as an error. Whether it was the end of the sound is seen
        // by what was announced; an MP3 file without a word about its length ends where it ends.
        Err(Reason::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof && track.may_end() => Ok(None),
        Err(reason) => Err(undecodable(reason)),
    }
}

/// The sound in a file, as far as it was decoded.
struct Track {
    id: u32,
    decoder: Box<dyn AudioDecoder>,
    /// Samples per channel that the file says it has, if it says so.
    announced: Option<u64>,
    rate: Option<u32>,
    samples: Vec<f32>,
    interleaved: Vec<f32>,
}

impl Track {
    fn of(format: &dyn FormatReader, limits: &Limits) -> Result<Self> {
        let track = format.default_track(TrackType::Audio).ok_or_else(|| undecodable("there is no sound in it"))?;
        let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
        let parameters = parameters.ok_or_else(|| undecodable("there is no sound in it"))?;
        if let Some(channels) = &parameters.channels {
            check("channels", channels.count() as u64, limits.channels)?;
        }
        if let Some(rate) = parameters.sample_rate {
            check_rate(rate)?;
            check("seconds", track.num_frames.unwrap_or(0) / u64::from(rate), limits.seconds)?;
            check("samples", track.num_frames.unwrap_or(0), limits.samples)?;
        }
        let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &AudioDecoderOptions::default());
        Ok(Self {
            id: track.id,
            decoder: decoder.map_err(undecodable)?,
            announced: track.num_frames,
            rate: parameters.sample_rate,
            samples: Vec::new(),
            interleaved: Vec::new(),
        })
    }

    /// Whether an end of the file here is the end of a sound, or at least one that will be held against what was
    /// announced.
    fn may_end(&self) -> bool {
        self.announced.is_some() || !self.samples.is_empty()
    }

    fn decode(&mut self, packet: &symphonia::core::packet::Packet, limits: &Limits) -> Result<()> {
        let decoded = self.decoder.decode(packet).map_err(undecodable)?;
        let spec = decoded.spec();
        let (channels, rate) = (spec.channels().count(), spec.rate());
        if channels == 0 || decoded.frames() == 0 {
            return Ok(());
        }
        check("channels", channels as u64, limits.channels)?;
        check_rate(rate)?;
        if *self.rate.get_or_insert(rate) != rate {
            return Err(undecodable("the number of samples per second changes inside the file"));
        }
        let after = self.samples.len().saturating_add(decoded.frames()) as u64;
        check("seconds", after.div_ceil(u64::from(rate)), limits.seconds)?;
        check("samples", after, limits.samples)?;
        decoded.copy_to_vec_interleaved(&mut self.interleaved);
        let mean = |frame: &[f32]| match frame {
            [only] => *only,
            several => several.iter().sum::<f32>() / several.len() as f32,
        };
        self.samples.extend(self.interleaved.chunks_exact(channels).map(mean));
        Ok(())
    }

    fn finish(self) -> Result<Sound> {
        let got = self.samples.len() as u64;
        if let Some(announced) = self.announced.filter(|announced| got < *announced) {
            return Err(Error::Truncated { got, announced });
        }
        let rate = self.rate.ok_or_else(|| undecodable("it does not say how many samples a second has"))?;
        Sound::new(rate, self.samples)
    }
}

#[cfg(test)]
mod tests;
