// Looks at everything people see while `sealpost demo` runs. The test beside
// this file starts the demo, sends the letters and gives the addresses:
//
//   SITE='{"portal": …, "mailboxes": …, "key": …, "letters": {"text": {"to": …, "message": …}, …}}'
//   SHOTS=folder   optional: keep a picture of every page
//   node walk.mjs
//
// Each fault is a line on standard output; the exit code is 1 when there is
// one.
import { Faults, Visit, launch, looks } from './look.mjs'
import { Mailbox } from './mailbox.mjs'

const site = JSON.parse(process.env.SITE)
const origins = [site.portal, site.mailboxes].map((u) => new URL(u).origin)
const faults = new Faults()
const browser = await launch()

const begin = (name, options) => Visit.begin(browser, faults, name, origins, options)
const boxOf = (letter) => new Mailbox(site.mailboxes, site.letters[letter].to)
const inList = (letter) => `li a:has-text("${site.letters[letter].to}")`
const noticeLink = `a[href*="/m/"]`

// follow goes from the list of mailboxes to the page where the code is entered.
async function follow(v, letter) {
  await v.go(site.mailboxes, 'mailboxes')
  await v.press(inList(letter))
  await v.page.waitForURL(/\/mail\/\d+$/)
  v.at = 'notice'
  await v.press(noticeLink)
  await v.page.waitForURL(/\/m\//)
  v.at = 'ask'
  const before = (await boxOf(letter).mails()).length
  await v.press('button.main')
  await v.page.waitForURL(/\/code$/)
  v.at = 'code'
  return before
}

async function enter(v, code) {
  v.at = 'code'
  if (!await v.page.locator('#code').evaluate((e) => e === document.activeElement)) v.fault('the code field has no focus')
  await v.page.keyboard.type(code)
  await v.page.keyboard.press('Enter')
}

async function open(v, letter) {
  await enter(v, await boxOf(letter).code(await follow(v, letter)))
  await v.page.waitForURL(/\/read$/)
  v.at = 'read'
}

// letter: from the notice to a saved file with the keyboard alone.
async function letter() {
  const v = await begin('letter')
  const { page } = v
  await v.go(site.mailboxes, 'mailboxes')
  await v.see('mailboxes', { keys: false })
  await v.press(inList('text'))
  await page.waitForURL(/\/mail\/\d+$/)
  await v.see('notice')
  await v.press(noticeLink)
  await page.waitForURL(/\/m\//)
  await v.see('ask')
  const before = (await boxOf('text').mails()).length
  await v.press('button.main')
  await page.waitForURL(/\/code$/)
  const code = await boxOf('text').code(before)
  await enter(v, String((Number(code) + 1) % 1000000).padStart(6, '0'))
  await page.waitForURL(/\/open$/)
  await v.see('wrong-code')
  await page.reload()
  await page.locator('#code').focus()
  await enter(v, `${code.slice(0, 3)} ${code.slice(3)}`)
  await page.waitForURL(/\/read$/)
  await v.see('read')
  const [file] = await Promise.all([page.waitForEvent('download'), v.press('.files a')])
  if (await file.failure()) v.fault('the file is not saved')
  await v.press('header button')
  await page.waitForURL(/\/leave$/)
  await v.see('left')
  await page.goBack()
  await page.reload()
  if (await page.locator('.letter').count()) v.fault('the message can be read after it was closed')
  await v.context.close()
}

// codes: the page for the code, also when another is asked for, and its mail.
async function codes() {
  const v = await begin('codes')
  const before = await follow(v, 'again')
  await v.see('code')
  await boxOf('again').code(before)
  await v.press('form:has([name=again]) button')
  await v.page.waitForURL(/\/code$/)
  await v.see('another')
  await v.go(site.mailboxes, 'mailboxes')
  await v.press(inList('again'))
  await v.see('code-mail')
  await v.context.close()
}

// designed: the sender's HTML, with the text and alone.
async function designed(kind) {
  const v = await begin(kind)
  const { page } = v
  await open(v, kind)
  if (kind === 'html') {
    const frame = page.frames().find((f) => f !== page.mainFrame())
    await frame?.waitForLoadState()
    if (!frame || !(await frame.content()).includes('Your next visit')) v.fault('the frame is empty')
  }
  await v.see('read')
  const [popup] = await Promise.all([v.context.waitForEvent('page'), v.press('main a[href^="/read/html"]')])
  await popup.waitForLoadState()
  v.at = 'designed'
  const origin = await popup.evaluate(() => globalThis.origin)
  if (origin !== 'null') v.fault(`the sender's HTML has the origin ${origin}`)
  if (await popup.evaluate(() => document.scripts.length)) v.fault("the sender's HTML has scripts")
  if (!await popup.evaluate(() => document.images[0]?.naturalWidth)) v.fault('the picture in the HTML does not show')
  await v.see('designed', { page: popup, examine: false, keys: false })
  await v.context.close()
}

async function broken() {
  const v = await begin('broken')
  await open(v, 'broken')
  await v.see('read')
  await v.context.close()
}

// takenBack: the sender cancels while the recipient types the code.
async function takenBack() {
  const v = await begin('taken-back')
  const code = await boxOf('takenBack').code(await follow(v, 'takenBack'))
  const reply = await fetch(`${site.portal}/api/v1/messages/${site.letters.takenBack.message}/cancel`,
    { method: 'POST', headers: { Authorization: `Bearer ${site.key}` } })
  if (!reply.ok) v.fault(`cancel: ${reply.status} ${await reply.text()}`)
  await enter(v, code)
  await v.page.waitForURL(/\/open$/)
  if (!/taken this message back/.test(await v.page.textContent('main'))) v.fault('the page does not say why')
  await v.see('refused')
  await v.context.close()
}

// still: pages that need nobody's message.
async function still() {
  const v = await begin('still')
  for (const [at, path] of [['home', '/'], ['not-found', '/nothing/here'], ['session-over', '/read']]) {
    await v.go(site.portal + path, at)
    await v.see(at)
  }
  await v.go(site.portal + '/api/docs', 'docs')
  await v.see('docs')
  await v.context.close()
}

// notice: the mail itself, as a mail program with or without a dark theme
// shows it. Mail programs put it into a page of their own, so it has no
// landmarks.
async function notice() {
  const v = await begin('notice')
  await v.go(site.mailboxes, 'mailboxes')
  await v.press(inList('notice'))
  await v.page.waitForURL(/\/mail\/\d+$/)
  // The mailboxes give mail no scripts, and axe is one.
  const shown = await fetch(await v.page.locator('a[href$="/html"]').evaluate((a) => a.href))
  await v.page.setContent(await shown.text())
  await v.see('html', { widths: [600, 320], ignore: ['region', 'landmark-one-main'] })
  await v.context.close()
}

// plain: a browser without JavaScript.
async function plain() {
  const { width, height } = looks[2]
  const v = await begin('no-javascript', { javaScriptEnabled: false, viewport: { width, height } })
  const { page } = v
  await v.go(site.mailboxes, 'mailboxes')
  await page.click(inList('plain'))
  await page.click(noticeLink)
  const before = (await boxOf('plain').mails()).length
  await page.click('button.main')
  await page.fill('#code', await boxOf('plain').code(before))
  await page.click('button.main')
  await page.waitForURL(/\/read$/)
  v.at = 'read'
  if (!/within the normal range/.test(await page.textContent('.letter'))) v.fault('the message is not shown')
  const [file] = await Promise.all([page.waitForEvent('download'), page.click('.files a')])
  if (await file.failure()) v.fault('the file is not saved')
  await page.click('header button')
  await page.waitForURL(/\/leave$/)
  await v.context.close()
}

// Two at a time: one waits for mail or paint while the other looks.
const parts = { letter, designedHTML: () => designed('html'), still, codes, designedBoth: () => designed('both'), takenBack, notice, broken, plain }
const queue = Object.entries(parts)
const tooLate = new Promise((_, fail) => setTimeout(() => fail(new Error('not done within four minutes')), 240_000).unref())
tooLate.catch(() => {})
async function work() {
  for (let next; (next = queue.shift());) {
    const [name, part] = next
    try {
      await Promise.race([part(), tooLate])
    } catch (e) {
      faults.add(name, e.message.split('\n')[0])
    }
  }
}
await Promise.all([work(), work()])
await browser.close()
for (const f of faults.list) console.log(f)
process.exitCode = faults.list.length ? 1 : 0
