import type { Test } from 'tap';
import type { RestorePlan, Runtime } from '../../../core/contract/index.js';

/** The suite's own container is an ordinary one. What a native text says otherwise is the engine's own matter, but for what no
 *  engine can know: it is listed, or the text is refused. */
export async function testGrants(t: Test, runtime: Runtime, plan: RestorePlan): Promise<void> {
  t.strictSame(await runtime.grants(plan, { shares: [] }), [], 'an ordinary container has no rights over the host');
  const { native } = plan.description;
  const strange = { ...plan, description: { ...plan.description, native: { ...native, text: `${native.text}\nlxc.no-such-option = 1` } } };
  const ask = () => runtime.grants(strange, { shares: ['/'] }).then((grants) => grants.map(({ code, what }) => `${code} ${what}`), String);
  const found = await ask();
  t.not(found.length, 0, `what is not understood is listed or refused: ${found}`);
  t.strictSame(await ask(), found, 'in stable text');
}
