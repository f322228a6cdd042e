//! Objects of a session: find, make, copy, destroy, read and set attributes.

use crate::codes::ReturnCode;
use crate::mechanism::Mechanism;
use crate::module::{check, function, within};
use crate::rv::{CallError, Function};
use crate::session::{ObjectHandle, Session};
use crate::template::{Attribute, Template};
use cryptoki_sys::{CK_ATTRIBUTE, CK_BBOOL, CK_MECHANISM, CK_OBJECT_HANDLE, CK_ULONG};
use zeroize::Zeroizing;

/// No attribute that is read here is longer.
const MAX_ATTRIBUTE: usize = 64 * 1024;

impl Session {
    /// Every object that matches `template`, at most `limit`. Costs about 19 µs per object of the token on SoftHSM:
    /// for start-up and administration, never for a request.
    pub fn find(&self, template: &Template, limit: usize) -> Result<Vec<ObjectHandle>, CallError> {
        let (init, next, end) = (
            function!(self.module, C_FindObjectsInit),
            function!(self.module, C_FindObjects),
            function!(self.module, C_FindObjectsFinal),
        );
        let mut raw = template.raw();
        // SAFETY: the template's entries borrow from `template`, which outlives the call.
        check(Function::C_FindObjectsInit, unsafe {
            init(self.handle, raw.as_mut_ptr(), raw.len())
        })?;
        let mut found = Vec::new();
        let mut result = Ok(());
        while found.len() < limit {
            let mut page: [CK_OBJECT_HANDLE; 64] = [0; 64];
            let want = page.len().min(limit - found.len());
            let mut count = 0;
            // SAFETY: `page` has room for `want` handles, and `count` is live.
            let rv = unsafe { next(self.handle, page.as_mut_ptr(), want as CK_ULONG, &mut count) };
            let count = check(Function::C_FindObjects, rv).and_then(|()| within(Function::C_FindObjects, count, want));
            match count {
                Ok(0) => break,
                Ok(count) => found.extend(page[..count].iter().map(|handle| ObjectHandle(*handle))),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // SAFETY: takes the session handle by value. Called on errors too, so that the session stays usable.
        let ended = check(Function::C_FindObjectsFinal, unsafe { end(self.handle) });
        result.and(ended).map(|()| found)
    }

    pub fn generate_key(&self, mechanism: Mechanism, template: &Template) -> Result<ObjectHandle, CallError> {
        let generate = function!(self.module, C_GenerateKey);
        let mut mechanism = plain(mechanism);
        let mut raw = template.raw();
        let mut key = 0;
        // SAFETY: mechanism, template and out-parameter are live for the call.
        let rv = unsafe { generate(self.handle, &mut mechanism, raw.as_mut_ptr(), raw.len(), &mut key) };
        check(Function::C_GenerateKey, rv)?;
        Ok(ObjectHandle(key))
    }

    /// Makes a pair: (public, private).
    pub fn generate_pair(
        &self,
        mechanism: Mechanism,
        public: &Template,
        private: &Template,
    ) -> Result<(ObjectHandle, ObjectHandle), CallError> {
        let generate = function!(self.module, C_GenerateKeyPair);
        let mut mechanism = plain(mechanism);
        let (mut public, mut private) = (public.raw(), private.raw());
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: mechanism, both templates and both out-parameters are live for the call.
        let rv = unsafe {
            generate(
                self.handle,
                &mut mechanism,
                public.as_mut_ptr(),
                public.len(),
                private.as_mut_ptr(),
                private.len(),
                &mut public_key,
                &mut private_key,
            )
        };
        check(Function::C_GenerateKeyPair, rv)?;
        Ok((ObjectHandle(public_key), ObjectHandle(private_key)))
    }

    /// Imports an object whose value is in the template: known-answer tests only.
    pub fn create(&self, template: &Template) -> Result<ObjectHandle, CallError> {
        let create = function!(self.module, C_CreateObject);
        let mut raw = template.raw();
        let mut object = 0;
        // SAFETY: template and out-parameter are live for the call.
        let rv = unsafe { create(self.handle, raw.as_mut_ptr(), raw.len(), &mut object) };
        check(Function::C_CreateObject, rv)?;
        Ok(ObjectHandle(object))
    }

    pub fn copy(&self, object: ObjectHandle, changes: &Template) -> Result<ObjectHandle, CallError> {
        let copy = function!(self.module, C_CopyObject);
        let mut raw = changes.raw();
        let mut made = 0;
        // SAFETY: template and out-parameter are live for the call.
        let rv = unsafe { copy(self.handle, object.0, raw.as_mut_ptr(), raw.len(), &mut made) };
        check(Function::C_CopyObject, rv)?;
        Ok(ObjectHandle(made))
    }

    pub fn destroy(&self, object: ObjectHandle) -> Result<(), CallError> {
        let destroy = function!(self.module, C_DestroyObject);
        // SAFETY: takes both handles by value.
        check(Function::C_DestroyObject, unsafe { destroy(self.handle, object.0) })
    }

    pub fn set_attributes(&self, object: ObjectHandle, changes: &Template) -> Result<(), CallError> {
        let set = function!(self.module, C_SetAttributeValue);
        let mut raw = changes.raw();
        // SAFETY: the template's entries borrow from `changes`, which outlives the call.
        let rv = unsafe { set(self.handle, object.0, raw.as_mut_ptr(), raw.len()) };
        check(Function::C_SetAttributeValue, rv)
    }

    /// A boolean attribute; `None` if the token does not know the attribute or will not tell.
    pub fn flag(&self, object: ObjectHandle, attribute: Attribute) -> Result<Option<bool>, CallError> {
        let mut value: CK_BBOOL = 0;
        let mut entry = CK_ATTRIBUTE {
            type_: attribute.0,
            pValue: (&raw mut value).cast(),
            ulValueLen: size_of::<CK_BBOOL>() as CK_ULONG,
        };
        match self.read_attribute(object, &mut entry) {
            Ok(()) if entry.ulValueLen == 1 => Ok(Some(value != 0)),
            Ok(()) => Ok(None),
            Err(error) if silent(error.code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An attribute's bytes; `None` if the token does not know it or will not tell. Wiped on drop: a probe may read a key.
    pub fn bytes(&self, object: ObjectHandle, attribute: Attribute) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        let mut entry = CK_ATTRIBUTE {
            type_: attribute.0,
            pValue: std::ptr::null_mut(),
            ulValueLen: 0,
        };
        match self.read_attribute(object, &mut entry) {
            Ok(()) => {}
            Err(error) if silent(error.code) => return Ok(None),
            Err(error) => return Err(error),
        }
        if entry.ulValueLen == cryptoki_sys::CK_UNAVAILABLE_INFORMATION {
            return Ok(None);
        }
        let room = within(Function::C_GetAttributeValue, entry.ulValueLen, MAX_ATTRIBUTE)?;
        let mut value = Zeroizing::new(vec![0; room]);
        entry.pValue = value.as_mut_ptr().cast();
        self.read_attribute(object, &mut entry)?;
        value.truncate(within(Function::C_GetAttributeValue, entry.ulValueLen, room)?);
        Ok(Some(value))
    }

    /// ALLOWED_MECHANISMS in the token's order; `None` if the token does not know the attribute or will not tell.
    pub fn allowed_mechanisms(&self, object: ObjectHandle) -> Result<Option<Vec<Mechanism>>, CallError> {
        let bytes = self.bytes(object, Attribute::ALLOWED_MECHANISMS)?;
        Ok(bytes.map(|bytes| {
            let numbers = bytes.chunks_exact(size_of::<CK_ULONG>());
            let number = |bytes: &[u8]| CK_ULONG::from_ne_bytes(bytes.try_into().expect("a chunk is one number long"));
            numbers.map(|bytes| Mechanism(number(bytes))).collect()
        }))
    }

    fn read_attribute(&self, object: ObjectHandle, entry: &mut CK_ATTRIBUTE) -> Result<(), CallError> {
        let read = function!(self.module, C_GetAttributeValue);
        // SAFETY: `entry` is live, and its buffer is null (size query) or of the length it states.
        check(Function::C_GetAttributeValue, unsafe {
            read(self.handle, object.0, entry, 1)
        })
    }
}

/// A mechanism without parameter.
pub(crate) fn plain(mechanism: Mechanism) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: mechanism.0,
        pParameter: std::ptr::null_mut(),
        ulParameterLen: 0,
    }
}

fn silent(code: ReturnCode) -> bool {
    matches!(
        code,
        ReturnCode::ATTRIBUTE_TYPE_INVALID | ReturnCode::ATTRIBUTE_SENSITIVE
    )
}
