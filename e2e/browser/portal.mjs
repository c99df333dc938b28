// The portal in a real browser, with the keyboard alone, light and dark, wide
// and 320 pixels narrow. Each look asks for one code, and a message has five
// an hour, so a link serves one run an hour.
//
//   npm ci
//   PORTAL_LINKS="http://localhost:1234/m/… …"  links from notices, with spaces between
//   PORTAL_TO="pat@example.org"                  whose links they are
//   MAILBOXES_URL="http://127.0.0.1:1235"        where GET /messages?to= gives the mail
//   SHOTS=/tmp/shots                             optional: a folder for pictures
//   node portal.mjs
//
// `go test -tags browser ./e2e/browser` does all of it with a portal of its own.
import { mkdirSync } from 'node:fs'
import { Faults, check, launch, looks, recordViolations, tabThrough, tabTo } from './look.mjs'

const links = (process.env.PORTAL_LINKS ?? '').split(/\s+/).filter(Boolean)
const to = process.env.PORTAL_TO
const mailboxes = process.env.MAILBOXES_URL
const shots = process.env.SHOTS
if (!links.length || !to || !mailboxes) {
  console.error('PORTAL_LINKS, PORTAL_TO and MAILBOXES_URL are needed')
  process.exit(2)
}
if (shots) mkdirSync(shots, { recursive: true })

const faults = new Faults()
faults.expect(/status of 422/)

async function codes() {
  const reply = await fetch(`${mailboxes}/messages?to=${encodeURIComponent(to)}`)
  const found = []
  for (const m of await reply.json()) {
    const raw = /^[A-Za-z0-9+/=\s]+$/.test(m.raw) ? Buffer.from(m.raw, 'base64').toString() : m.raw
    const code = /Your code is (\d{3}) (\d{3})/.exec(raw)
    if (code) found.push(code[1] + code[2])
  }
  return found
}

async function newCode(before) {
  for (let i = 0; i < 200; i++) {
    const now = await codes()
    if (now.length > before) return now[now.length - 1]
    await new Promise((done) => setTimeout(done, 50))
  }
  throw new Error('no code came')
}

// walk is one person reading one message.
async function walk(browser, link, look, n) {
  const context = await browser.newContext({ colorScheme: look.colorScheme, viewport: look.viewport, acceptDownloads: true })
  const page = await context.newPage()
  let at = ''
  const where = () => `${look.name} message ${n} ${at}`
  faults.watch(page, new URL(link).origin, where)
  await page.addInitScript(recordViolations)
  const look_ = async (name, options) => {
    at = name
    if (shots) await page.screenshot({ path: `${shots}/${n}-${name}-${look.name}.png`, fullPage: true })
    await check(page, faults, where(), options)
  }

  at = 'ask'
  await page.goto(link)
  await look_('ask')
  await tabThrough(page, faults, where())
  const before = (await codes()).length
  await tabTo(page, 'button.main')
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/code$/)
  await look_('code')
  const code = await newCode(before)
  await page.locator('#code').focus()
  await page.keyboard.type(String((Number(code) + 1) % 1000000).padStart(6, '0'))
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/open$/)
  await look_('wrong-code')
  await tabThrough(page, faults, where())
  await page.locator('#code').focus()
  await page.keyboard.type(`${code.slice(0, 3)} ${code.slice(3)}`)
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/read$/)
  await look_('read')
  await tabThrough(page, faults, where())
  await readRich(page, context, look_, where)
  await download(page, where)
  await tabTo(page, 'header button')
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/leave$/)
  await look_('left')
  await context.close()
}

// readRich opens the sender's HTML by itself: it must have no origin there
// either.
async function readRich(page, context, look_, where) {
  const link = page.locator('main a[href^="/read/html"]')
  if (!await link.count()) return
  const frame = page.frames().find((f) => f !== page.mainFrame())
  if (await page.locator('iframe').count()) {
    await frame?.waitForLoadState()
    if (!frame || !(await frame.content()).includes('<body>')) faults.add(where(), 'the frame is empty')
  }
  const [popup] = await Promise.all([context.waitForEvent('page'), link.click()])
  await popup.waitForLoadState()
  const origin = await popup.evaluate(() => globalThis.origin)
  if (origin !== 'null') faults.add(where(), `the sender's HTML has the origin ${origin}`)
  if (await popup.evaluate(() => document.scripts.length)) faults.add(where(), "the sender's HTML has scripts")
  await popup.close()
}

async function download(page, where) {
  const file = page.locator('.files a').first()
  if (!await file.count()) return
  const [d] = await Promise.all([page.waitForEvent('download'), file.click()])
  if (await d.failure()) faults.add(where(), 'the file is not saved')
}

const browser = await launch()
try {
  for (const [n, link] of links.entries()) {
    for (const look of looks) await walk(browser, link, look, n + 1)
  }
} catch (e) {
  faults.add('run', e.message.split('\n')[0])
} finally {
  await browser.close()
}
faults.end()
console.log(faults.list.length ? `${faults.list.length} faults` : `portal: ${links.length * looks.length} walks without a fault`)
