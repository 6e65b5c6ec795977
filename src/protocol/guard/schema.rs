//! What a shape is made of: the fields of a request in the order they have on the wire, with the versions
//! they are in. The shapes themselves ([`super::shapes`]) are made of Kafka's message definitions.

/// The type of a field. Only its size counts: a floating-point number is an integer of as many bytes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uuid,
    String,
    Bytes,
    Array(&'static Kind),
    Struct(&'static [Field]),
}

/// One field of a request, or of a structure inside of it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Kafka's name for it, for error messages.
    pub name: &'static str,
    pub kind: Kind,
    /// The first version that has the field.
    since: i16,
    /// The last version that has the field.
    until: i16,
    /// The first version in which it may be null.
    null_since: i16,
    /// Its number, for a field that stands among the tagged ones (KIP-482).
    pub tag: Option<u32>,
}

/// Its response is read before the client knows what the broker speaks (KIP-511).
const API_VERSIONS: i16 = 18;

/// A version that no request reaches.
pub const NEVER: i16 = i16::MAX;

pub const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: NEVER, null_since: NEVER, tag: None }
}

impl Field {
    pub const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    pub const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    pub const fn null_since(mut self, version: i16) -> Self {
        self.null_since = version;
        self
    }

    pub const fn tag(mut self, number: u32) -> Self {
        self.tag = Some(number);
        self
    }

    #[inline]
    pub fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    #[inline]
    pub fn may_be_null(&self, version: i16) -> bool {
        self.null_since <= version
    }
}

/// A request of Kafka's.
#[derive(Debug)]
pub struct Shape {
    pub key: i16,
    /// Kafka's name of the API.
    pub name: &'static str,
    /// The first and the last version that Kafka has.
    pub versions: (i16, i16),
    /// The last version that may not change any more.
    pub last_stable: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_since: i16,
    /// Kafka's brokers answer it.
    pub on_brokers: bool,
    /// Kafka's controllers answer it.
    pub on_controllers: bool,
    pub fields: &'static [Field],
}

impl Shape {
    pub fn has_version(&self, version: i16) -> bool {
        self.versions.0 <= version && version <= self.versions.1
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_since
    }

    /// The version of the header before a request of this version.
    pub fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before the response to a request of this version.
    pub fn response_header_version(&self, version: i16) -> i16 {
        let reads_it_unknowing = self.key == API_VERSIONS;
        i16::from(self.is_flexible(version) && !reads_it_unknowing)
    }
}
