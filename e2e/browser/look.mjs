// What every page must bear, in a real browser: no fault that axe finds, no
// sideways scroll, nothing fetched from elsewhere, nothing refused by the
// Content-Security-Policy, every control reachable with the keyboard and
// visible while it has the focus.
import { mkdirSync } from 'node:fs'
import axe from 'axe-core'
import { chromium } from 'playwright-core'

const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

export const looks = [
  { name: 'light-1280', colorScheme: 'light', width: 1280, height: 900 },
  { name: 'dark-1280', colorScheme: 'dark', width: 1280, height: 900 },
  { name: 'light-320', colorScheme: 'light', width: 320, height: 640 },
  { name: 'dark-320', colorScheme: 'dark', width: 320, height: 640 },
]

// Everything that Tab must reach. A frame passes the focus on to what is in it.
const controls = 'a[href], button, input:not([type=hidden]), [tabindex="0"]'

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  })
}

// Faults collects what is wrong, so that one run names everything.
export class Faults {
  list = []

  add(where, what) {
    const line = `${where}: ${what}`.replaceAll('\n', ' ')
    if (!this.list.includes(line)) this.list.push(line)
  }
}

// Visit is one person with one browser. at names the page in faults.
export class Visit {
  at = 'start'

  static async begin(browser, faults, name, origins, options = {}) {
    const v = new Visit()
    const { width, height, colorScheme } = looks[0]
    v.context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, ...options })
    v.faults = faults
    v.name = name
    await v.context.addInitScript(recordViolations)
    v.context.on('weberror', (e) => v.fault(`script error: ${e.error().message}`))
    v.context.on('console', (m) => {
      // A page that comes with a 4xx is meant to.
      if (m.type() === 'error' && !/the server responded with a status of 4\d\d/.test(m.text())) v.fault(`console: ${m.text()}`)
    })
    v.context.on('request', (r) => {
      const url = new URL(r.url())
      if (url.protocol !== 'data:' && !origins.includes(url.origin)) v.fault(`request to ${url.origin}`)
    })
    v.page = await v.context.newPage()
    return v
  }

  fault(what) {
    this.faults.add(`${this.name}, ${this.at}`, what)
  }

  async go(url, at) {
    this.at = at
    await this.page.goto(url)
  }

  // see checks the page in every look, and takes a picture of each if SHOTS
  // names a folder.
  async see(at, { page = this.page, examine = true, keys = true, ignore = [], widths = [1280, 320] } = {}) {
    for (const look of looks) {
      this.at = `${at} ${look.name}`
      const width = look.width === 320 ? widths[1] : widths[0]
      await page.setViewportSize({ width, height: look.height })
      await page.emulateMedia({ colorScheme: look.colorScheme })
      if (process.env.SHOTS) await shoot(page, `${this.name}-${at}-${look.name}`)
      await this.fits(page)
      if (examine) await this.examine(page, ignore)
      if (keys) await this.tabThrough(page)
    }
    this.at = at
    await this.refusals(page)
    await page.setViewportSize({ width: looks[0].width, height: looks[0].height })
    await page.emulateMedia({ colorScheme: looks[0].colorScheme })
  }

  async fits(page) {
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth])
    if (wide > room) this.fault(`scrolls sideways: ${wide} in ${room} pixels`)
  }

  async examine(page, ignore) {
    if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(axe.source)
    const rules = Object.fromEntries(ignore.map((id) => [id, { enabled: false }]))
    // What is in a frame is the sender's.
    const options = { runOnly: tags, rules, iframes: false, resultTypes: ['violations'] }
    const found = await page.evaluate(async (options) => {
      const { violations } = await globalThis.axe.run(options)
      return violations.map((v) => `axe ${v.id}: ${v.help} (${v.nodes.map((n) => n.target).join(', ')})`)
    }, options)
    for (const f of found) this.fault(f)
  }

  async refusals(page) {
    for (const v of await page.evaluate(() => globalThis.violations ?? [])) this.fault(`refused by the policy: ${v}`)
  }

  // tabThrough presses Tab until it has been everywhere.
  async tabThrough(page) {
    const all = await page.locator(controls).count()
    await page.evaluate(() => document.activeElement?.blur?.())
    const seen = new Set()
    let last = -1
    for (let i = 0; i < all + 15 && seen.size < all; i++) {
      await page.keyboard.press('Tab')
      let at = await focused(page)
      // The focus comes out of a frame, which is another process, a moment later.
      for (let wait = 0; wait < 20 && at.n === last; wait++) {
        await page.waitForTimeout(25)
        at = await focused(page)
      }
      last = at.n
      if (at.n < 0) continue
      seen.add(at.n)
      if (!at.shown) this.fault(`the focus does not show on <${at.tag}>`)
    }
    if (seen.size !== all) this.fault(`${all - seen.size} of ${all} controls are not reached with the keyboard`)
  }

  // press goes to a control with Tab and presses Enter, as somebody without a
  // mouse does.
  async press(selector) {
    const want = this.page.locator(selector).first()
    for (let i = 0; i < 300; i++) {
      if (await want.evaluate((e) => e === document.activeElement)) {
        if (!(await focused(this.page)).shown) this.fault(`the focus does not show on ${selector}`)
        await this.page.keyboard.press('Enter')
        return
      }
      await this.page.keyboard.press('Tab')
    }
    throw new Error(`${this.name}, ${this.at}: the keyboard does not reach ${selector}`)
  }
}

export async function shoot(page, name) {
  mkdirSync(process.env.SHOTS, { recursive: true })
  await page.screenshot({ path: `${process.env.SHOTS}/${name.replaceAll(' ', '-')}.png`, fullPage: true })
}

// focused tells which control has the focus, and whether an outline shows it.
function focused(page) {
  return page.evaluate((controls) => {
    const e = document.activeElement
    const s = getComputedStyle(e)
    const box = e.getBoundingClientRect()
    const seen = box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight
    return {
      n: [...document.querySelectorAll(controls)].indexOf(e),
      tag: e.tagName.toLowerCase() + (e.className ? '.' + e.className : ''),
      // auto is the browser's own ring.
      shown: seen && (s.outlineStyle === 'auto' || s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2),
    }
  }, controls)
}

// recordViolations runs before the page's own content.
function recordViolations() {
  globalThis.violations = []
  document.addEventListener('securitypolicyviolation', (e) => {
    globalThis.violations.push(`${e.violatedDirective} ${e.blockedURI}`)
  })
}
