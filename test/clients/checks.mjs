// Runs checks, given by name, one after the other: a line for each, `ok NAME` or `not ok NAME: WHY`.
// Tells whether all passed.
export async function run(checks, ms) {
  let passed = true;

  for (const [name, check] of Object.entries(checks)) {
    try {
      await Promise.race([check(), deadline(ms)]);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`not ok ${name}: ${error.message.split("\n")[0]}`);
      passed = false;
    }
  }
  return passed;
}

function deadline(ms) {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
}
