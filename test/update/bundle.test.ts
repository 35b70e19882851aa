/** Bundles with flipped bits, in every part, checked against the real RAUC. */
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { ServiceError } from '../../core/primitives/service-error.js';
import { checkBundle } from '../../core/update/bundle.js';
import { checkEnvelope } from '../../core/update/envelope.js';
import { openRauc } from '../../core/update/rauc.js';
import { checkPayload, signatureOf } from '../../core/update/verity.js';
import { type Keys, RaucBed } from '../support/servers/rauc-bed.js';

const run = promisify(execFile);
const signal = new AbortController().signal;
const progress = () => undefined;

async function codeOf(action: Promise<unknown>): Promise<string> {
  return action.then(
    () => 'taken',
    (error: unknown) => (error instanceof ServiceError ? error.code : String(error)),
  );
}

/** A chain as a vendor has it: a root on the appliance, and a key for releases below it, of an elliptic curve. */
async function chainOf(bed: RaucBed): Promise<Keys> {
  const at = (name: string) => join(bed.folder, name);
  const keys = { certificate: at('leaf.pem'), key: at('leaf.key') };
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/O=Test/CN=leaf'];
  await run('openssl', ['req', ...kind, '-keyout', keys.key, '-out', at('leaf.csr')]);
  const issuer = ['-CA', bed.keys.certificate, '-CAkey', bed.keys.key, '-set_serial', '7', '-days', '9'];
  await run('openssl', ['x509', '-req', '-in', at('leaf.csr'), ...issuer, '-out', keys.certificate]);
  return keys;
}

t.test('a good bundle is accepted with an RSA key and with a chain', async (t) => {
  const bed = await RaucBed.start(t);
  const rauc = openRauc(bed.config);
  for (const keys of [bed.keys, await chainOf(bed)]) {
    const percents: number[] = [];
    const file = await bed.bundle({ version: '2.0.1', keys, bytes: 3 << 20 });
    const check = { rauc, compatible: 'board-x', signal, progress: (percent: number) => percents.push(percent) };
    t.match(await checkBundle(file, check), { version: '2.0.1', compatible: 'board-x', signed_by: /O = Test, CN = (release|leaf)/ });
    t.ok(percents.length >= 3 && percents.every((percent, at) => percent <= 100 && percent >= (percents[at - 1] ?? 0)), `${percents}`);
  }
  const plain = await bed.bundle({ format: 'plain' });
  t.equal(await codeOf(checkBundle(plain, { rauc, compatible: 'board-x', signal, progress })), 'damaged_bundle', 'another format');
});

t.test('the hash tree check agrees with rauc extract', async (t) => {
  const bed = await RaucBed.start(t);
  const rauc = openRauc(bed.config);
  // One level, two, and whole blocks of digests: 128 blocks are 512 KiB.
  for (const bytes of [4096, 100_000, 600_000, 66 << 20]) {
    const file = await bed.bundle({ bytes });
    const { verity } = await rauc.info(file, signal);
    t.equal(await codeOf(checkPayload(file, verity, { signal, progress })), 'taken', `${bytes} bytes: whole`);
    const end = await endOf(file);
    for (const place of [0, end - verity.size - 1, end - verity.size, end - 1, randomInt(end)]) {
      await flip(file, place, randomInt(8), async () => {
        const theirs = await run('rauc', [`--conf=${bed.config}`, 'extract', file, join(bed.folder, 'out')]).then(
          () => 'taken',
          (error: Error) => (/payload is corrupted/.test(error.message) ? 'damaged_bundle' : error.message),
        );
        t.equal(theirs, 'damaged_bundle', 'RAUC agrees');
        t.equal(await codeOf(checkPayload(file, verity, { signal, progress })), 'damaged_bundle', `${bytes} bytes: bit of byte ${place}`);
      });
    }
  }
});

async function change(file: string, at: number, bit: number): Promise<void> {
  await using handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, at);
  await handle.write(Buffer.from([(byte[0] ?? 0) ^ (1 << bit)]), 0, 1, at);
}

/** The file is closed meanwhile: RAUC takes none that somebody may write to. */
async function flip(file: string, at: number, bit: number, during: () => Promise<void>): Promise<void> {
  await change(file, at, bit);
  await during();
  await change(file, at, bit);
}

async function endOf(file: string): Promise<number> {
  await using handle = await open(file, 'r');
  return (await signatureOf(handle)).end;
}

/** The bits of a bundle's signature that the check of the envelope does not look at. */
async function acceptedFlips(file: string): Promise<{ readonly place: number; readonly bit: number }[]> {
  await using handle = await open(file, 'r');
  const { end, signature } = await signatureOf(handle);
  const flips = [...signature.keys()].flatMap((at) => [...Array(8).keys()].map((bit) => ({ place: end + at, bit })));
  return flips.filter(({ place, bit }) => {
    const flipped = Buffer.from(signature);
    flipped[place - end] = (flipped[place - end] ?? 0) ^ (1 << bit);
    try {
      checkEnvelope(flipped);
      return true;
    } catch {
      return false;
    }
  });
}

t.test('a bundle with one flipped bit is refused, in its signature too', async (t) => {
  const bed = await RaucBed.start(t);
  const rauc = openRauc(bed.config);
  const check = { rauc, compatible: 'board-x', signal, progress };
  for (const [what, keys] of [['RSA', bed.keys] as const, ['a chain', await chainOf(bed)] as const]) {
    const file = await bed.bundle({ keys, bytes: 65_536 });
    const [end, { size }] = [await endOf(file), await stat(file)];
    // RAUC lets some bits of the signature pass. The check of the envelope takes no time, so it sees each bit of the signature.
    // RAUC must refuse the bits that this check accepts: a part of them is tried.
    const accepted = await acceptedFlips(file);
    t.ok(accepted.length > 4000, 'most of the signature is protected by itself');
    const flips = Array.from({ length: 80 }, () => accepted[randomInt(accepted.length)] ?? { place: 0, bit: 0 });
    for (let n = 0; n < 20; n++) flips.push({ place: randomInt(end), bit: randomInt(8) });
    for (let n = 0; n < 8; n++) flips.push({ place: randomInt(size - 8, size), bit: n });
    const passed: string[] = [];
    for (const { place, bit } of flips) {
      await flip(file, place, bit, async () => {
        const code = await codeOf(checkBundle(file, check));
        if (code !== 'damaged_bundle' && code !== 'untrusted_bundle')
          passed.push(`${code}: bit ${bit} of byte ${place - end} after the payload`);
      });
    }
    t.same(passed, [], `${what}: ${flips.length} flips`);
    t.equal(await codeOf(checkBundle(file, check)), 'taken', 'and the whole one is still taken');
  }
});

t.test('a file that is no bundle, or has a foreign key or board, is refused with its code', async (t) => {
  const bed = await RaucBed.start(t);
  const check = { rauc: openRauc(bed.config), compatible: 'board-x', signal, progress };
  const whole = await readFile(await bed.bundle());
  const file = join(bed.folder, 'odd.raucb');
  const cases: readonly (readonly [what: string, bytes: Buffer])[] = [
    ['nothing', Buffer.alloc(0)],
    ['a few bytes', Buffer.from('hello')],
    ['zeros', Buffer.alloc(1 << 20)],
    ['text', Buffer.from('x'.repeat(100_000))],
    ['the first half', whole.subarray(0, whole.length / 2)],
    ['one that lacks its last byte', whole.subarray(0, -1)],
    ['one with a byte more', Buffer.concat([whole, Buffer.alloc(1)])],
    ['one that lacks its first block', whole.subarray(4096)],
    ['one with a block more', Buffer.concat([whole.subarray(0, 4096), whole])],
  ];
  for (const [what, bytes] of cases) {
    await writeFile(file, bytes);
    t.equal(await codeOf(checkBundle(file, check)), 'damaged_bundle', what);
  }
  await writeFile(file, whole);
  t.equal(await codeOf(checkBundle(file, { ...check, compatible: 'board-y' })), 'incompatible_bundle');
  t.equal(await codeOf(checkBundle(file, { ...check, signal: AbortSignal.abort() })), 'aborted');
  const evil = await bed.bundle({ keys: await bed.newKeys('evil') });
  t.equal(await codeOf(checkBundle(evil, check)), 'untrusted_bundle', 'a foreign key');
  // The same name on the certificate is not the same key.
  const imitated = await bed.newKeys('other');
  await run('openssl', ['req', '-x509', '-key', imitated.key, '-days', '9', '-subj', '/O=Test/CN=release', '-out', imitated.certificate]);
  t.equal(await codeOf(checkBundle(await bed.bundle({ keys: imitated }), check)), 'untrusted_bundle', 'a key of the same name');
  const nowhere = { ...check, rauc: openRauc(join(bed.folder, 'none.conf')) };
  t.equal(await codeOf(checkBundle(file, nowhere)), 'unavailable', 'RAUC without its configuration');
});

t.test('a signature with the digest of another algorithm is damaged, though RAUC accepts it', async (t) => {
  const bed = await RaucBed.start(t);
  const file = await bed.bundle({ keys: await chainOf(bed) });
  const ecdsaWithSha256 = Buffer.from('300a06082a8648ce3d040302', 'hex');
  // The signer is the last item; the first of these lies in the certificate when an ECDSA key has signed that.
  const place = (await readFile(file)).lastIndexOf(ecdsaWithSha256) + ecdsaWithSha256.length - 1;
  const check = { rauc: openRauc(bed.config), compatible: 'board-x', signal, progress };
  await flip(file, place, 0, async () => {
    await t.resolves(check.rauc.info(file, signal), 'RAUC takes ecdsa-with-SHA384');
    t.equal(await codeOf(checkBundle(file, check)), 'damaged_bundle');
  });
  t.equal(await codeOf(checkBundle(file, check)), 'taken');
});

t.test('a cut signature is a damaged bundle', async (t) => {
  const bed = await RaucBed.start(t);
  await using handle = await open(await bed.bundle(), 'r');
  const { signature } = await signatureOf(handle);
  t.doesNotThrow(() => checkEnvelope(signature));
  for (let length = 0; length < signature.length; length += 7)
    t.throws(() => checkEnvelope(signature.subarray(0, length)), { code: 'damaged_bundle' }, `${length} bytes`);
});
