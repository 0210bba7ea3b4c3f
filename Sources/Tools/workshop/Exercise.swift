import CommandLineTool
import Glibc
import Judging
import SystemCalls

/// One exercise of a course.
final class Exercise {
  /// From 1 on, over the whole course.
  let number: Int
  /// "03-listen"; "03-listen/2" for a lesson's second one. No folder has such a name.
  let name: String
  private let folder: String
  private let suffix: String
  private let place: Place

  /// `suffix` is "" for a lesson's first exercise, "2" for its second.
  init(number: Int, folder name: String, suffix: String, place: Place) {
    self.number = number
    self.name = suffix.isEmpty ? name : "\(name)/\(suffix)"
    folder = "\(place.course)/\(name)"
    self.suffix = suffix
    self.place = place
  }

  /// What the learner edits.
  var source: String { "\(folder)/\(sourceName)" }
  var sourceName: String { "exercise\(suffix).swift" }
  var solution: String { "\(folder)/solution\(suffix).swift" }
  var sourceFolder: String { folder }
  /// The lesson's text, where there is one.
  var text: String? { access("\(folder)/README.md", R_OK) == 0 ? "\(folder)/README.md" : nil }

  /// A path beside the source's that is no exercise's.
  func copy(_ number: Int) -> String { "\(folder)/exercise\(suffix)-kept-\(number).swift" }

  /// What it is called by: "listen", "03-listen", and its file.
  var names: [String] {
    let short = name.drop { $0.isNumber }.dropFirst()
    return [name, String(short), "\(name.split(separator: "/").first ?? "")/\(sourceName)"]
  }

  /// What the program must do; or why nobody can tell.
  private(set) lazy var check: Result<Check, Complaint> = {
    let path = "\(folder)/check\(suffix).json"
    if access(source, F_OK) != 0 {
      return .failure(Complaint("\(place.shown(source)) cannot be read: \(ErrorNumber.last)"))
    }
    do throws(Complaint) { return .success(try Check(path: path)) } catch {
      return .failure(Complaint(error.description.replacing(path, with: place.shown(path))))
    }
  }()

  var isUsable: Bool { (try? check.get()) != nil }

  /// "A listening socket"
  var title: String {
    switch check {
    case .success(let check): check.title.printable
    case .failure: "cannot be used: its check is broken"
    }
  }

  /// The comment at the head of a source file: the task, a line each, without the slashes.
  ///
  /// - Throws: where it cannot be read.
  func task() throws(Complaint) -> [String] {
    guard let source = SystemCalls.text(ofFile: source) else {
      throw Complaint("\(place.shown(source)) cannot be read: \(ErrorNumber.last)")
    }
    let lines = source.split(separator: "\n", omittingEmptySubsequences: false).map {
      $0.last == "\r" ? $0.dropLast() : $0
    }
    return lines.drop { $0.allSatisfy(\.isWhitespace) }.prefix { $0.hasPrefix("//") }.map { line in
      var text = line.drop { $0 == "/" }
      if text.first == " " { text = text.dropFirst() }
      return String(text).replacing("\t", with: "  ").printable
    }
  }
}
