/** compareVersions: which of two versions is older. */
import t from 'tap';
import { compareVersions } from '../../core/update/version.js';

/** Each older than the next. */
const orders: readonly (readonly string[])[] = [
  ['1.2.3', '1.2.4', '1.2.10', '1.3', '1.10.0', '2'],
  ['1.2.3-dev', '1.2.3-alpha1', '1.2.3-beta.2', '1.2.3-rc1', '1.2.3-rc2', '1.2.3-rc10', '1.2.3', '1.2.4-rc1'],
  ['1.2.3', '1.2.3-1-gabcdef0', '1.2.3-5-gabcdef', '1.2.3-12-g0000000', '1.2.4'],
  ['1.2.3', '1.2.3+20260131', '1.2.3+20260201', '1.2.3-20260201T0930Z', '1.2.3.20260201093100', '1.2.3-1-gabcdef+20200101'],
  ['1.2.3-5-gabc+20260131', '1.2.3-5-gdef+20260201', '1.2.3-6-gabc+20250101'],
  ['20260131', '20260201', '202602011200'],
  ['no version', '0.0.1'],
  ['', '0'],
];
const same: readonly (readonly [string, string])[] = [
  ['1.2', '1.2.0'],
  ['v1.2.3', '1.2.3'],
  ['1.2.3-5-gabcdef', '1.2.3-5-g123456'],
  ['1.2.3-5-gabcdef-dirty', '1.2.3-5-gabcdef'],
  ['1.2.3+abc', '1.2.3'],
  ['1.2.3+20260131', '1.2.3-20260131'],
  ['this', 'that'],
];

t.test('each version is older than all that follow it', async (t) => {
  for (const order of orders) {
    order.forEach((older, at) => {
      for (const newer of order.slice(at + 1)) {
        t.ok(compareVersions(older, newer) < 0, `${older} < ${newer}`);
        t.ok(compareVersions(newer, older) > 0, `${newer} > ${older}`);
      }
    });
  }
});

t.test('versions that differ in form only are equal', async (t) => {
  for (const [a, b] of same) t.equal(compareVersions(a, b), 0, `${a} and ${b}`);
});

t.test('a hostile text is compared within a second', async (t) => {
  const began = performance.now();
  for (const text of ['1'.repeat(100_000), '1.'.repeat(50_000), `1${'-0'.repeat(50_000)}!`, `1${'+20260131'.repeat(9_000)}!`])
    compareVersions(text, '1.2.3');
  t.ok(performance.now() - began < 1000, `${Math.round(performance.now() - began)} ms`);
});
