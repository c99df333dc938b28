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

const pane = page.getElementById("messagepane");
// Where it cannot decrypt S/MIME, a page that says so stands in place of the
// message and its header: data:text/html;base64,…
const complaint = () => {
  const url = pane.currentURI?.spec ?? "";
  return url.startsWith("data:text/html;base64,") && page.getElementById("msgHeaderView").collapsed
    ? new DOMParser().parseFromString(atob(url.split(",")[1]), "text/html").querySelector("h1").textContent : "";
};
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
const nothing = Object.fromEntries(Object.keys(argument.Want).map(name => [name, ""]));
const seen = async () => complaint() ? { ...nothing, Listed: view.gMessage.mime2DecodedSubject } : ({
  Technology: page.getElementById("cryptoBox").hidden ? "" : page.querySelector("#encryptionTechBtn .crypto-label").textContent,
  Encrypted: icon("encryptedHdrIcon"),
  Signed: icon("signedHdrIcon"),
  Subject: shown("expandedsubjectBox"),
  // In the list of messages, from now on.
  Listed: view.gMessage.mime2DecodedSubject,
  To: [...page.querySelectorAll("#expandedtoBox .header-recipient")].map(e => e.textContent.trim()).join(", "),
  Text: (pane.contentDocument?.body?.innerText ?? "").trim(),
  Files: (await files()).join("\n"),
});
let result = {};
const wanted = async () => {
  result = await seen();
  return Object.entries(argument.Want).every(([name, value]) => result[name] === value);
};
const finished = () => complaint() || events.has("shown") && events.has("processed") && view.gReceivedSignatureCount >= view.gExpectedSignatureCount;

const as = await until(deadline, async () => finished() && (await wanted()));
if (as && (argument.Want.Text == "" || argument.Want.Signed == "")) {
  await pause(1000);
}
await wanted();
result.Finished = Boolean(finished());
result.Notice = complaint() ||
  [...page.querySelectorAll("notification-message")].map(n => n.shadowRoot?.querySelector(".message")?.textContent || n.textContent).join(" ");
tabmail.closeTab(tab);
return result;
