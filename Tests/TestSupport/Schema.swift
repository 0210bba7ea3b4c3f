import Foundation

/// The JSON Schema in Lessons/reference/json.md, applied by Python's jsonschema.
public enum Schema {
  /// What is wrong with a story, or nil.
  public static func problem(with story: String) throws -> String? {
    let text = try String(contentsOfFile: "\(Place.root)/Lessons/reference/json.md", encoding: .utf8)
    guard let start = text.range(of: "```json\n"),
      let end = text.range(of: "\n```", range: start.upperBound..<text.endIndex), let python = Witness.python
    else { return "no schema in json.md, or no python3" }
    return try Place.withTemporaryFolder { folder in
      let schema = try Place.file("schema.json", in: folder, String(text[start.upperBound..<end.lowerBound]))
      let lines = try Place.file("story.jsonl", in: folder, story)
      let script = try Place.file(
        "check.py", in: folder,
        """
        import json, sys
        try:
            from jsonschema import Draft202012Validator as V
        except ImportError:
            sys.exit(77)
        schema = json.load(open(sys.argv[1])); V.check_schema(schema); v = V(schema); n = 0
        for line in open(sys.argv[2]):
            n += 1
            for error in v.iter_errors(json.loads(line)):
                best = error
                while best.context: best = max(best.context, key=lambda e: len(e.absolute_path))
                sys.exit("line %d: %s at %s: %s" % (n, best.message, list(best.absolute_path), line[:300]))
        print(n)
        """)
      let result = try Program.run([python, script, schema, lines])
      // jsonschema is a witness like any other.
      if result.status == 77 { return Witness.areRequired ? "python3 has no jsonschema" : nil }
      if result.status != 0 { return result.errors }
      return Int(result.lines.first ?? "") ?? 0 > 0 ? nil : "no lines"
    }
  }
}
