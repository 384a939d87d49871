const REASON_LENGTH = 2_000;
const LAST_LINES = 15;
const LINE_LENGTH = 300;

// Walks steps, given by name, up to the first that fails, and tells then what all saw. Returns whether all passed.
export async function walk(title, app, people, steps) {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`ok ${title}: ${name}`);
    } catch (error) {
      const reason = error.message.replace(/\s+/g, " ").slice(0, REASON_LENGTH);
      console.log(`not ok ${title}: ${name}: ${reason}`);
      const reports = await Promise.all(people.map((person) => person.report()));
      const lines = app.log().trimEnd().split("\n").slice(-LAST_LINES);
      const logged = lines.map((line) => `app: ${line.slice(0, LINE_LENGTH)}`);
      for (const line of [...reports.flat(), ...logged]) console.log(`  ${line}`);
      process.exitCode = 1;
      return false;
    }
  }
  return true;
}
