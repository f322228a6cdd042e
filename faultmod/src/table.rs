//! Every function of PKCS#11 2.40, 3.0 and 3.2 that is passed on, by the list in which it first appears.
//!
//! A row is the C signature, then what the call is about and where its output goes (`call.rs`). The three functions that
//! hand out function lists are not here: `export.rs` has them. Source: the OASIS headers, as bound by `cryptoki-sys`.

/// Calls the macro `$then` with the whole table.
macro_rules! for_each_function {
    ($then:ident) => {
        $then! {
            v2_40 {
                C_Initialize(reserved: *mut c_void) of [Library] [Nothing];
                C_Finalize(reserved: *mut c_void) of [Library] [Nothing];
                C_GetInfo(info: *mut CK_INFO) of [Library] [Nothing];
                C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) of [Slots(count)] [Nothing];
                C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) of [Slot] [Nothing];
                C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) of [Slot] [Nothing];
                C_GetMechanismList(slot: CK_SLOT_ID, mechanisms: *mut CK_MECHANISM_TYPE,
                    count: *mut CK_ULONG) of [Slot] [Nothing];
                C_GetMechanismInfo(slot: CK_SLOT_ID, mechanism: CK_MECHANISM_TYPE,
                    info: *mut CK_MECHANISM_INFO) of [Slot] [Nothing];
                C_InitToken(slot: CK_SLOT_ID, text: *mut CK_UTF8CHAR, text_len: CK_ULONG,
                    text2: *mut CK_UTF8CHAR) of [Slot] [Nothing];
                C_InitPIN(session: CK_SESSION_HANDLE, text: *mut CK_UTF8CHAR,
                    text_len: CK_ULONG) of [Session(session)] [Nothing];
                C_SetPIN(session: CK_SESSION_HANDLE, text: *mut CK_UTF8CHAR, text_len: CK_ULONG,
                    text2: *mut CK_UTF8CHAR, text2_len: CK_ULONG) of [Session(session)] [Nothing];
                C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY,
                    made: *mut CK_SESSION_HANDLE) of [Slot] [Nothing];
                C_CloseSession(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_CloseAllSessions(slot: CK_SLOT_ID) of [Slot] [Nothing];
                C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) of [Session(session)] [Nothing];
                C_GetOperationState(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SetOperationState(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    key: CK_OBJECT_HANDLE, key2: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, text: *mut CK_UTF8CHAR,
                    text_len: CK_ULONG) of [Session(session)] [Nothing];
                C_Logout(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_CreateObject(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, template_len: CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_CopyObject(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG, made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_DestroyObject(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_GetObjectSize(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE,
                    count: *mut CK_ULONG) of [Session(session)] [Nothing];
                C_GetAttributeValue(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG) of [Session(session)] [Nothing];
                C_SetAttributeValue(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG) of [Session(session)] [Nothing];
                C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG) of [Session(session)] [Nothing];
                C_FindObjects(session: CK_SESSION_HANDLE, found: *mut CK_OBJECT_HANDLE, found_len: CK_ULONG,
                    count: *mut CK_ULONG) of [Session(session)] [Nothing];
                C_FindObjectsFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_EncryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_Encrypt(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_EncryptUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_EncryptFinal(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_Decrypt(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptFinal(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DigestInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM) of [Session(session)] [Nothing];
                C_Digest(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DigestUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_DigestFinal(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_Sign(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SignUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_SignFinal(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SignRecoverInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_SignRecover(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_VerifyInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_Verify(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, data2: *mut CK_BYTE,
                    data2_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifyUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifyFinal(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifyRecoverInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_VerifyRecover(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DigestEncryptUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptDigestUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SignEncryptUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptVerifyUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_GenerateKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG, made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_GenerateKeyPair(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    template: *mut CK_ATTRIBUTE, template_len: CK_ULONG, template2: *mut CK_ATTRIBUTE,
                    template2_len: CK_ULONG, made: *mut CK_OBJECT_HANDLE,
                    made2: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_WrapKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
                    key2: CK_OBJECT_HANDLE, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_UnwrapKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
                    data: *mut CK_BYTE, data_len: CK_ULONG, template: *mut CK_ATTRIBUTE, template_len: CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_DeriveKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
                    template: *mut CK_ATTRIBUTE, template_len: CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_SeedRandom(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_GenerateRandom(session: CK_SESSION_HANDLE, out: *mut CK_BYTE,
                    out_len: CK_ULONG) of [Session(session)] [Filled(out, out_len)];
                C_GetFunctionStatus(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_CancelFunction(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut CK_SLOT_ID, reserved: *mut c_void) of [Library] [Nothing];
            }
            v3_0 {
                C_LoginUser(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, text: *mut CK_UTF8CHAR,
                    text_len: CK_ULONG, text2: *mut CK_UTF8CHAR, text2_len: CK_ULONG) of [Session(session)] [Nothing];
                C_SessionCancel(session: CK_SESSION_HANDLE, flags: CK_FLAGS) of [Session(session)] [Nothing];
                C_MessageEncryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_EncryptMessage(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, data2: *mut CK_BYTE, data2_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_EncryptMessageBegin(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_EncryptMessageNext(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE, out_len: *mut CK_ULONG,
                    flags: CK_FLAGS) of [Session(session)] [Bytes(out, out_len)];
                C_MessageEncryptFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_MessageDecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_DecryptMessage(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, data2: *mut CK_BYTE, data2_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_DecryptMessageBegin(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_DecryptMessageNext(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE, out_len: *mut CK_ULONG,
                    flags: CK_FLAGS) of [Session(session)] [Bytes(out, out_len)];
                C_MessageDecryptFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_MessageSignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_SignMessage(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_SignMessageBegin(session: CK_SESSION_HANDLE, parameter: *mut c_void,
                    parameter_len: CK_ULONG) of [Session(session)] [Nothing];
                C_SignMessageNext(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, out: *mut CK_BYTE,
                    out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_MessageSignFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_MessageVerifyInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_VerifyMessage(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, data2: *mut CK_BYTE,
                    data2_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifyMessageBegin(session: CK_SESSION_HANDLE, parameter: *mut c_void,
                    parameter_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifyMessageNext(session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG, data2: *mut CK_BYTE,
                    data2_len: CK_ULONG) of [Session(session)] [Nothing];
                C_MessageVerifyFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
            }
            v3_2 {
                C_EncapsulateKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
                    template: *mut CK_ATTRIBUTE, template_len: CK_ULONG, out: *mut CK_BYTE, out_len: *mut CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Bytes(out, out_len)];
                C_DecapsulateKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
                    template: *mut CK_ATTRIBUTE, template_len: CK_ULONG, data: *mut CK_BYTE, data_len: CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
                C_VerifySignatureInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifySignature(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifySignatureUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE,
                    data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_VerifySignatureFinal(session: CK_SESSION_HANDLE) of [Session(session)] [Nothing];
                C_GetSessionValidationFlags(session: CK_SESSION_HANDLE, kind: CK_SESSION_VALIDATION_FLAGS_TYPE,
                    flags: *mut CK_FLAGS) of [Session(session)] [Nothing];
                C_AsyncComplete(session: CK_SESSION_HANDLE, text: *mut CK_UTF8CHAR,
                    info: *mut CK_ASYNC_DATA) of [Session(session)] [Nothing];
                C_AsyncGetID(session: CK_SESSION_HANDLE, text: *mut CK_UTF8CHAR,
                    count: *mut CK_ULONG) of [Session(session)] [Nothing];
                C_AsyncJoin(session: CK_SESSION_HANDLE, text: *mut CK_UTF8CHAR, text_len: CK_ULONG,
                    data: *mut CK_BYTE, data_len: CK_ULONG) of [Session(session)] [Nothing];
                C_WrapKeyAuthenticated(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE, key2: CK_OBJECT_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG,
                    out: *mut CK_BYTE, out_len: *mut CK_ULONG) of [Session(session)] [Bytes(out, out_len)];
                C_UnwrapKeyAuthenticated(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM,
                    key: CK_OBJECT_HANDLE, data: *mut CK_BYTE, data_len: CK_ULONG, template: *mut CK_ATTRIBUTE,
                    template_len: CK_ULONG, data2: *mut CK_BYTE, data2_len: CK_ULONG,
                    made: *mut CK_OBJECT_HANDLE) of [Session(session)] [Nothing];
            }
        }
    };
}
pub(crate) use for_each_function;
