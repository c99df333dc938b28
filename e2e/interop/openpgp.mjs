// OpenPGP.js as a program: one command, its arguments as JSON on standard
// input with octets in base64, the result in octets.
import * as openpgp from 'openpgp'

const read = async () => {
  let text = ''
  for await (const chunk of process.stdin) text += chunk
  return JSON.parse(text)
}
const octets = base64 => new Uint8Array(Buffer.from(base64, 'base64'))
const publicKey = base64 => openpgp.readKey({ binaryKey: octets(base64) })
const secretKey = base64 => openpgp.readPrivateKey({ binaryKey: octets(base64) })
const text = base64 => Buffer.from(base64, 'base64').toString()

const kinds = {
  rsa3072: { type: 'rsa', rsaBits: 3072 },
  cv25519: { type: 'ecc', curve: 'ed25519Legacy' },
  p256: { type: 'ecc', curve: 'nistP256' },
  p384: { type: 'ecc', curve: 'nistP384' },
  v6: { type: 'curve25519', config: { v6Keys: true, aeadProtect: true } },
}

// proved throws where there is not exactly one good signature by that key.
async function proved (signatures, by) {
  if (signatures.length !== 1) throw new Error(`${signatures.length} signatures`)
  await signatures[0].verified
  const signer = signatures[0].keyID
  if (!by.getKeys(signer).length) throw new Error('signed by another key')
}

const commands = {
  version: () => `OpenPGP.js ${openpgp.config.versionString.replace('OpenPGP.js ', '')}, Node.js ${process.version}\n`,
  generate: async ({ kind, address }) =>
    (await openpgp.generateKey({ ...kinds[kind], userIDs: [{ name: 'Somebody', email: address }], format: 'binary' })).privateKey,
  decrypt: async ({ own, by, message }) => {
    const signer = await publicKey(by)
    const { data, signatures } = await openpgp.decrypt({
      message: await openpgp.readMessage({ armoredMessage: text(message) }),
      decryptionKeys: await Promise.all(own.map(secretKey)), verificationKeys: signer, format: 'binary',
    })
    await proved(signatures, signer)
    return data
  },
  verify: async ({ by, content, signature }) => {
    const signer = await publicKey(by)
    const { signatures } = await openpgp.verify({
      message: await openpgp.createMessage({ binary: octets(content) }),
      signature: await openpgp.readSignature({ armoredSignature: text(signature) }), verificationKeys: signer, format: 'binary',
    })
    await proved(signatures, signer)
    return 'good'
  },
  encrypt: async ({ own, to, content }) => openpgp.encrypt({
    message: await openpgp.createMessage({ binary: octets(content) }), encryptionKeys: await publicKey(to), signingKeys: await secretKey(own),
  }),
  sign: async ({ own, content }) => openpgp.sign({
    message: await openpgp.createMessage({ binary: octets(content) }), signingKeys: await secretKey(own), detached: true,
  }),
}

const [command] = process.argv.slice(2)
try {
  process.stdout.write(await commands[command](command === 'version' ? {} : await read()))
} catch (e) {
  process.stderr.write(`${e.message}\n`)
  process.exitCode = 1
}
