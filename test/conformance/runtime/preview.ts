import type { Test } from 'tap';
import type { Conflict, Grant, Placement, Preview, RestorePlan, Runtime } from '../../../core/contract/index.js';

/** The conflicts of a plan. */
export async function conflictsOf(runtime: Runtime, plan: RestorePlan): Promise<readonly Conflict[]> {
  return (await runtime.preview(plan, { shares: [] })).conflicts;
}

/** The rights over the host that a plan asks for. */
export async function grantsOf(runtime: Runtime, plan: RestorePlan, shares: readonly string[]): Promise<readonly Grant[]> {
  return (await runtime.preview(plan, { shares })).grants;
}

/** The suite's own container needs no rights. An engine judges the settings that it knows in a native text. A setting that it cannot
 *  know must be listed as a right, or the text must be refused. */
export async function testGrants(t: Test, runtime: Runtime, plan: RestorePlan): Promise<void> {
  t.strictSame(await grantsOf(runtime, plan, []), [], 'an ordinary container has no rights over the host');
  const { native } = plan.description;
  const strange = { ...plan, description: { ...plan.description, native: { ...native, text: `${native.text}\nlxc.no-such-option = 1` } } };
  const ask = () => grantsOf(runtime, strange, ['/']).then((grants) => grants.map(({ code, what }) => `${code} ${what}`), String);
  const found = await ask();
  t.not(found.length, 0, `what is not understood is listed or refused: ${found}`);
  t.strictSame(await ask(), found, 'in stable text');
}

/** Asserts that the commit does what the preview said. */
export function testPlaces(t: Test, { description }: RestorePlan, done: Placement, { places, warnings }: Preview): void {
  t.strictSame(done, { places, warnings }, 'the places are as the preview had said');
  const named = ['rootfs', ...description.volume.map(({ name }) => name)];
  t.strictSame(done.places.map(({ source }) => source).sort(), named.sort(), 'of each source that the description names');
}
