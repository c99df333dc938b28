// Takes in keys and certificates and puts the messages into a folder.
// argument: {PGP: [{Name, Secret or Public}], Authority, SMIME: [{Name, File,
// Password}], Letters: [{Name, File}]}; keys and certificates in base64.
const module = (name, url) => ChromeUtils.importESModule(url)[name];
const MailServices = module("MailServices", "resource:///modules/MailServices.sys.mjs");
const FileUtils = module("FileUtils", "resource://gre/modules/FileUtils.sys.mjs");
const openpgp = "chrome://openpgp/content/modules/";
const RNP = module("RNP", openpgp + "RNP.sys.mjs");

await module("EnigmailCore", openpgp + "core.sys.mjs").init();
const answer = {
  Thunderbird: Services.appinfo.version,
  RNP: RNP.getRNPLibStatus().loaded_version,
  NSS: Cc["@mozilla.org/security/nssversion;1"].getService(Ci.nsINSSVersion).NSS_Version,
  Keys: {},
  Letters: {},
};
const refused = e => `refused: ${e.message || e}`;

for (const { Name, Secret, Public } of argument.PGP) {
  try {
    // What a person's "import" and "accepted, I have verified it" come to.
    const { exitCode, importedKeys, errorMsg } = Secret
      ? await RNP.importSecKeyBlockImpl(window, () => "", false, atob(Secret))
      : await RNP.importPubkeyBlockAutoAcceptImpl(window, atob(Public), "verified");
    answer.Keys[Name] = exitCode == 0 && importedKeys.length == 1 ? "taken" : refused(errorMsg);
  } catch (e) {
    answer.Keys[Name] = refused(e);
  }
}
module("EnigmailKeyRing", openpgp + "keyRing.sys.mjs").clearCache();

const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
certificates.addCertFromBase64(argument.Authority, "C,C,C");
for (const { Name, File, Password } of argument.SMIME) {
  try {
    const code = certificates.importPKCS12File(new FileUtils.File(File), Password);
    answer.Keys[Name] = code === Ci.nsIX509CertDB.Success ? "taken" : refused(code);
  } catch (e) {
    answer.Keys[Name] = refused(e);
  }
}

if (!MailServices.accounts.accounts.some(a => a.incomingServer?.type == "none")) {
  MailServices.accounts.createLocalMailAccount();
}
const root = MailServices.accounts.localFoldersServer.rootFolder.QueryInterface(Ci.nsIMsgLocalMailFolder);
const folder = root.createLocalSubfolder("Sealed");
for (const { Name, File } of argument.Letters) {
  answer.Letters[Name] = await new Promise((resolve, reject) => {
    let key;
    MailServices.copy.copyFileMessage(new FileUtils.File(File), folder, null, false, 0, "", {
      QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
      onStartCopy() {},
      onProgress() {},
      getMessageId() { return null; },
      setMessageKey(k) { key = k; },
      onStopCopy(status) {
        if (Components.isSuccessCode(status)) {
          resolve(folder.getUriForMsg(folder.GetMessageHeader(key)));
        } else {
          reject(new Error(`a message could not be put into the folder: ${status}`));
        }
      },
    }, null);
  });
}
return answer;
