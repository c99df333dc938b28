// Opens one message in a tab of its own, as a person does, and tells what is
// seen there. argument: {URI, Want}. It looks until it sees what is wanted,
// or for 20 seconds. What is wanted to be missing could still be on its way:
// there it looks on for a second behind the last event of the message.
const tabmail = document.getElementById("tabmail");
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const until = async (deadline, test) => {
  while (!(await test())) {
    if (Date.now() > deadline) { return false; }
    await pause(20);
  }
  return true;
};
const deadline = Date.now() + 20000;

const events = new Set();
const loaded = new Promise(resolve => {
  window.addEventListener("aboutMessageLoaded", e => {
    const view = e.target;
    view.addEventListener("MsgLoaded", () => events.add("shown"));
    view.document.addEventListener("openpgpprocessed", () => events.add("processed"));
    resolve(view);
  }, { capture: true, once: true });
});
const tab = tabmail.openTab("mailMessageTab", { messageURI: argument.URI, background: false });
const view = await loaded;
const page = view.document;

// A row of the header, without its label.
const shown = id => {
  const row = page.getElementById(id);
  return row.textContent.slice(row.querySelector(".row-heading")?.textContent.length).trim();
};
// "ok" of chrome://messenger/skin/icons/message-encrypted-ok.svg.
const icon = id => {
  const image = page.getElementById(id);
  return image.hidden ? "" : image.getAttribute("src").replace(/^.*-(.*)\.svg$/, "$1");
};
const files = async () => {
  const all = [];
  for (const a of view.currentAttachments || []) {
    const content = new TextDecoder().decode(await a.fetchAttachment());
    all.push(`${a.name}: ${content.trim()}`);
  }
  return all;
};
const seen = async () => ({
  Technology: page.getElementById("cryptoBox").hidden ? "" : page.querySelector("#encryptionTechBtn .crypto-label").textContent,
  Encrypted: icon("encryptedHdrIcon"),
  Signed: icon("signedHdrIcon"),
  Subject: shown("expandedsubjectBox"),
  // In the list of messages, from now on.
  Listed: view.gMessage?.mime2DecodedSubject ?? "",
  To: [...page.querySelectorAll("#expandedtoBox .header-recipient")].map(e => e.textContent.trim()).join(", "),
  Text: (page.getElementById("messagepane").contentDocument?.body?.innerText ?? "").trim(),
  Files: (await files()).join("\n"),
});
let result = {};
const wanted = async () => {
  result = await seen();
  return Object.entries(argument.Want).every(([name, value]) => result[name] === value);
};
const finished = () => events.has("shown") && events.has("processed") && view.gReceivedSignatureCount >= view.gExpectedSignatureCount;

let as = await until(deadline, async () => finished() && (await wanted()));
if (as && (argument.Want.Text == "" || argument.Want.Signed == "")) {
  await pause(1000);
  as = await wanted();
}
result.Notice = [...page.querySelectorAll("notification-message")].map(n => n.shadowRoot?.querySelector(".message")?.textContent.trim() || n.textContent.trim()).join(" ");
tabmail.closeTab(tab);
return result;
