// What every page must bear, in a real browser: no fault that axe finds, no
// sideways scroll, nothing fetched from elsewhere, nothing refused by the
// Content-Security-Policy, every control reachable and visible with the
// keyboard.
import { AxeBuilder } from '@axe-core/playwright'
import { chromium } from 'playwright-core'

const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

export const looks = [
  { name: 'light-1280', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'dark-1280', colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  { name: 'light-320', colorScheme: 'light', viewport: { width: 320, height: 640 } },
  { name: 'dark-320', colorScheme: 'dark', viewport: { width: 320, height: 640 } },
]

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  })
}

// Faults collects what is wrong, so that one run names everything.
export class Faults {
  list = []
  expected = []

  add(where, what) {
    this.list.push(`${where}: ${what}`)
  }

  // expect allows console errors that a status code of ours causes.
  expect(pattern) {
    this.expected.push(pattern)
  }

  watch(page, origin, where) {
    page.on('pageerror', (e) => this.add(where(), `script error: ${e.message}`))
    page.on('console', (m) => {
      if (m.type() === 'error' && !this.expected.some((p) => p.test(m.text()))) this.add(where(), `console: ${m.text()}`)
    })
    page.on('request', (r) => {
      const url = new URL(r.url())
      if (url.protocol !== 'data:' && url.origin !== origin) this.add(where(), `request to ${url.origin}`)
    })
  }

  end() {
    for (const f of this.list) console.error(f)
    process.exitCode = this.list.length ? 1 : 0
  }
}

// recordViolations runs before the page's own content.
export function recordViolations() {
  globalThis.violations = []
  document.addEventListener('securitypolicyviolation', (e) => {
    globalThis.violations.push(`${e.violatedDirective} ${e.blockedURI}`)
  })
}

export async function check(page, faults, where, { axe = true } = {}) {
  for (const v of await page.evaluate(() => globalThis.violations ?? [])) faults.add(where, `refused by the policy: ${v}`)
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth])
  if (wide > room) faults.add(where, `scrolls sideways: ${wide} in ${room} pixels`)
  if (!axe) return
  const result = await new AxeBuilder({ page }).withTags(tags).exclude('iframe').analyze()
  for (const v of result.violations) faults.add(where, `axe ${v.id}: ${v.help} (${v.nodes.map((n) => n.target).join(', ')})`)
}

// tabThrough presses Tab until it has been everywhere, and wants each control
// to be reached and to show that it has the focus.
export async function tabThrough(page, faults, where) {
  const controls = 'a[href], button, input:not([type=hidden])'
  const all = await page.locator(controls).count()
  await page.evaluate(() => document.activeElement?.blur?.())
  const seen = new Set()
  for (let i = 0; i < all + 5; i++) {
    await page.keyboard.press('Tab')
    const at = await page.evaluate((controls) => {
      const e = document.activeElement
      const n = [...document.querySelectorAll(controls)].indexOf(e)
      if (n < 0) return { n }
      const s = getComputedStyle(e)
      return { n, shown: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, name: e.textContent.trim().slice(0, 20) }
    }, controls)
    if (at.n < 0) continue
    seen.add(at.n)
    if (!at.shown) faults.add(where, `no visible focus on control ${at.n}`)
  }
  if (seen.size !== all) faults.add(where, `${all - seen.size} of ${all} controls are not reached with the keyboard`)
}

// tabTo goes to a control with the keyboard, as somebody without a mouse does.
export async function tabTo(page, selector) {
  for (let i = 0; i < 40; i++) {
    if (await page.evaluate((s) => document.activeElement?.matches(s), selector)) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`the keyboard does not reach ${selector}`)
}
