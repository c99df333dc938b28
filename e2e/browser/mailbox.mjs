// The mailboxes of the demo, as a program reads them.

export class Mailbox {
  constructor(url, address) {
    this.url = url
    this.address = address
  }

  async mails() {
    const reply = await fetch(`${this.url}/messages?to=${encodeURIComponent(this.address)}`)
    return reply.json()
  }

  // code waits for a code that came after the first `before` mails.
  async code(before) {
    const mail = await this.next(before)
    const [, a, b] = /Your code is (\d{3}) (\d{3})/.exec(mail.raw) ?? []
    if (!a) throw new Error('the newest mail brings no code')
    return a + b
  }

  async next(before) {
    for (let i = 0; i < 300; i++) {
      const mails = await this.mails()
      if (mails.length > before) return mails.at(-1)
      await new Promise((done) => setTimeout(done, 100))
    }
    throw new Error('no mail came within 30 seconds')
  }
}
