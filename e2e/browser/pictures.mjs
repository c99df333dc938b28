// Makes the pictures of the README in docs/images from a demo of its own:
//
//   make pictures
//
// demo.png is what `sealpost demo` prints, notice.png the notice in a mail
// program, portal.png the message on a phone. It needs `script` of util-linux,
// because the demo has colors only on a terminal.
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { launch } from './look.mjs'
import { Mailbox } from './mailbox.mjs'

const folder = new URL('../../docs/images/', import.meta.url).pathname
const program = new URL('../../bin/sealpost', import.meta.url).pathname
const patient = 'rita@self-signed.example'

// run starts the demo on a terminal and waits until it has shown everything.
async function run() {
  const demo = spawn('script', ['-qec', `'${program}' demo`, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
  let text = ''
  demo.stdout.setEncoding('utf8')
  const shown = new Promise((done, fail) => {
    demo.stdout.on('data', (s) => {
      text += s
      if (text.includes('Stop with Ctrl-C')) done()
    })
    demo.on('exit', () => fail(new Error('the demo ended')))
    setTimeout(() => fail(new Error('the demo takes longer than a minute')), 60_000).unref()
  })
  await shown
  demo.removeAllListeners('exit')
  const stop = () => new Promise((done) => {
    demo.on('exit', done)
    demo.stdin.write('\x03')
  })
  return { text: text.replaceAll('\r', ''), stop }
}

const plainOf = (text) => text.replaceAll(/\x1b\[\d*m/g, '')

// valueOf finds an address in the list at the top.
const valueOf = (text, name) => new RegExp(`^  ${name}.*?\\s{2,}(\\S+)`, 'm').exec(plainOf(text))[1]

const colors = { 1: 'b', 2: 'dim', 31: 'red', 32: 'green', 33: 'yellow', 36: 'blue' }

function terminal(text) {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  const painted = escaped.replaceAll(/\x1b\[(\d*)m/g, (_, n) => n === '0' ? '</span>' : `<span class="${colors[n] ?? ''}">`)
  return `<!doctype html><meta charset="utf-8"><style>
    body { margin: 0; width: max-content; background: #15181c; color: #d7dbe0; font: 13px/1.45 "DejaVu Sans Mono", monospace }
    pre { margin: 0; padding: 14px 22px 16px; font: inherit }
    .top { display: flex; gap: 7px; padding: 12px 14px 0 } .top i { width: 11px; height: 11px; border-radius: 50%; background: #3a4048 }
    .b { font-weight: 700; color: #fff } .dim { color: #939ba5 }
    .red { color: #ff8f80 } .green { color: #7fd58a } .yellow { color: #e8c268 } .blue { color: #7ab8f5 }
  </style><div class="top"><i></i><i></i><i></i></div><pre>$ sealpost demo\n${painted}</pre>`
}

// shortened leaves out what a reader of the README needs least: the list of
// addresses but for the first ones, and most of the many deliveries.
function shortened(text) {
  const lines = text.trimEnd().split('\n').map((l) => l.trimEnd())
  const kept = []
  const seen = {}
  let left = 0
  for (const line of lines) {
    const plain = plainOf(line)
    if (/^ {2}(SMTP|API key|Data folder)/.test(plain)) continue
    const [mark] = /^ {2}[✓✉…✗](?= )/.exec(plain) ?? []
    if (mark) {
      const most = mark.includes('✓') ? 9 : 5
      seen[mark] = (seen[mark] ?? 0) + 1
      if (seen[mark] > most) {
        left++
        continue
      }
    } else if (left) {
      kept.push(`    \x1b[2m… and ${left} more\x1b[0m`)
      left = 0
    }
    kept.push(line)
  }
  return kept.join('\n')
}

async function letter(portal, key, from) {
  const reply = await fetch(`${portal}/api/v1/messages`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({
      from: `Dr. Ada Reyes <${from}>`, to: [patient], subject: 'Your lab results',
      text: 'Dear Rita,\n\nYour HbA1c is 5.4 %, well within the normal range. Please keep taking your medication as before.\n\n' +
        'See you in spring!\n\nDr. Ada Reyes',
      attachments: [{ filename: 'results.pdf', content_type: 'application/pdf', content: Buffer.alloc(211_700).toString('base64') }],
    }),
  })
  if (!reply.ok) throw new Error(await reply.text())
}

const demo = await run()
const browser = await launch()
try {
  mkdirSync(folder, { recursive: true })
  const page = await browser.newPage({ viewport: { width: 1500, height: 900 }, deviceScaleFactor: 1 })
  const [portal, mailboxes, key] = ['Portal', 'Mailboxes', 'API key'].map((name) => valueOf(demo.text, name))
  // The picture has the usual ports, also when they were taken here.
  const usual = demo.text.replaceAll(portal, 'http://localhost:8080').replaceAll(mailboxes, 'http://127.0.0.1:8025')
  await page.setContent(terminal(shortened(usual)))
  await page.locator('body').screenshot({ path: `${folder}demo.png` })

  await letter(portal, key, /Sending from (\S+)/.exec(plainOf(demo.text))[1])
  const box = new Mailbox(mailboxes, patient)
  await box.next(0)
  const mail = await browser.newPage({ viewport: { width: 600, height: 400 }, deviceScaleFactor: 1.5 })
  await mail.goto(mailboxes)
  await mail.click(`li a:has-text("${patient}")`)
  await mail.click('a[href$="/html"]')
  await mail.waitForURL(/\/html$/)
  await mail.locator('a.link').evaluate((a) => (a.textContent = a.textContent.replace(/:\d+/, ':8080')))
  await mail.locator('body').screenshot({ path: `${folder}notice.png` })

  const phone = await browser.newPage({ viewport: { width: 390, height: 830 }, deviceScaleFactor: 1.5 })
  await phone.goto(await mail.locator('a').first().evaluate((a) => a.href))
  await phone.click('button.main')
  await phone.fill('#code', await box.code(1))
  await phone.click('button.main')
  await phone.waitForURL(/\/read$/)
  await phone.screenshot({ path: `${folder}portal.png` })
} finally {
  await browser.close()
  await demo.stop()
}
