//! A sound that the model hears while it is being recorded.

use std::time::{Duration, Instant};

use autoglm_audio::Chunker;
use autoglm_core::Embeds;

use crate::awake::Lease;
use crate::{Error, Model, Result, Session};

/// A sound on its way into a [`Session`]: samples come as the microphone gives them, and each window of the encoder
/// is worked on as soon as it is full, so that at most one is left when the speaker stops. The model stays awake meanwhile.
#[derive(Debug)]
pub struct Recording {
    model: Model,
    awake: Lease,
    chunker: Chunker,
    took: Duration,
}

impl Model {
    /// Begins a recording, of one channel and 16 000 samples per second.
    ///
    /// # Errors
    /// [`Error::ModalityOff`] when this checkpoint cannot hear, and what waking reports.
    ///
    /// ```
    /// use autoglm::{Model, OpenOptions};
    ///
    /// let model = Model::open_embedded(autoglm_tiny::FILES, &OpenOptions::default())?;
    /// let mut recording = model.record()?;
    /// for samples in [0.0f32; 24_000].chunks(1_600) {
    ///     recording.push(samples)?; // a tenth of a second
    /// }
    /// let mut session = model.session();
    /// session.say(recording)?;
    /// # Ok::<(), autoglm::Error>(())
    /// ```
    pub fn record(&self) -> Result<Recording> {
        let awake = self.lease()?;
        let chunker = awake.ears.encoder()?.chunker();
        Ok(Recording { model: self.clone(), awake, chunker, took: Duration::ZERO })
    }
}

impl Recording {
    /// Takes the next samples, full scale at ±1, and encodes each window that they fill.
    ///
    /// # Errors
    /// - `Error::Audio` names a sample that is infinite or no number, or beyond 2^24 times full scale; none of the samples
    ///   is taken then.
    /// - [`Error::Fusion`] when the recording would have more rows than the context; neither.
    /// - `Error::Audio` when a window cannot be encoded. The recording is of no use then: further samples,
    ///   [`Session::say`] and [`Session::say_approximately`] are refused, because the rows of what was lost would be
    ///   missing from those of the sound.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        let start = Instant::now();
        let features = self.awake.ears.encoder()?.features().config();
        let (rows, limit) = (features.rows(self.chunker.samples() + samples.len()), self.model.context());
        if rows > limit {
            return Err(autoglm_fusion::Error::Oversize { rows, limit }.into());
        }
        self.chunker.push(self.awake.ears.encoder()?, &self.awake.run(), samples)?;
        self.took += start.elapsed();
        Ok(())
    }

    /// Takes a sound file, resampled, as if it had been recorded: for trying out with files what a microphone would
    /// give.
    ///
    /// # Errors
    /// `Error::Audio` for a sound that is damaged or too long.
    pub fn push_audio(&mut self, bytes: &[u8]) -> Result<()> {
        let start = Instant::now();
        let sound = autoglm_audio::decode(bytes, &autoglm_audio::Limits::default())?;
        let samples = self.awake.ears.encoder()?.samples(&sound)?;
        self.took += start.elapsed();
        self.push(&samples)
    }

    /// Samples so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.chunker.samples()
    }
}

impl Session {
    /// Adds a recording to the user's turn: the same rows, to the bit, as the same samples in
    /// [`Part::samples`](crate::Part::samples).
    ///
    /// # Errors
    /// - [`Error::OtherModel`] for a recording that was begun with another model than the session.
    /// - As for [`Session::push`].
    pub fn say(&mut self, recording: Recording) -> Result<()> {
        self.admit(&recording)?;
        let start = Instant::now();
        let Recording { awake, chunker, took, .. } = recording;
        let rows = chunker.finish(awake.ears.encoder()?, &awake.run())?;
        self.add_recorded(rows, took + start.elapsed());
        Ok(())
    }

    /// As [`Session::say`], with rows that are approximate: those of the last window come from one that ends with the
    /// sound. Short sounds are heard in a fraction of the time, a little differently from how the model was trained.
    ///
    /// # Errors
    /// As for [`Session::say`].
    pub fn say_approximately(&mut self, recording: Recording) -> Result<()> {
        self.admit(&recording)?;
        let Recording { awake, chunker, took, .. } = recording;
        let start = Instant::now();
        let rows = chunker.approximate(awake.ears.encoder()?, &awake.run())?;
        self.add_recorded(rows, took + start.elapsed());
        Ok(())
    }

    /// Adds the rows of a recording, of which nobody measured the energy.
    fn add_recorded(&mut self, rows: Embeds, took: Duration) {
        self.spent.add(None);
        self.add_sound(rows, took);
    }

    fn admit(&self, recording: &Recording) -> Result<()> {
        // Its rows would be found as those of this model by whoever says the same.
        if !self.model.is(&recording.model) {
            return Err(Error::OtherModel);
        }
        self.model.chat().map(|_| ())
    }
}
