import KernelState

/// How a state looks: its colour and, for who sees no colours, the shape of its bar. A word stands at each change besides.
enum Look: String, CaseIterable {
  case close, listen, opening, established, finished, left, waiting, other

  enum Shape {
    /// An outline, which may be broken: no connection, or one that is not whole.
    case hollow, dashed, dotted
    /// Both ways open.
    case full
    /// One half of a connection is shut.
    case rightHalf, leftHalf
    /// No connection, and ready for many.
    case double
  }

  init(state: String?) {
    self =
      switch TCPState.allCases.first(where: { $0.name == state }) {
      case .close, .boundInactive: .close
      case .listen: .listen
      case .synSent, .synReceived, .newSynReceived: .opening
      case .established: .established
      case .finWait1, .finWait2, .closing: .finished
      case .closeWait, .lastAck: .left
      case .timeWait: .waiting
      case nil: .other
      }
  }

  var shape: Shape {
    switch self {
    case .close, .other: .hollow
    case .opening: .dashed
    case .waiting: .dotted
    case .established: .full
    case .finished: .leftHalf
    case .left: .rightHalf
    case .listen: .double
    }
  }

  /// What a state means, in few words.
  static func meaning(of state: TCPState) -> String {
    switch state {
    case .close, .boundInactive: "a socket without a connection"
    case .listen: "takes connections; 1/2: 1 waits for accept, 2 may"
    case .synSent: "has sent SYN, waits for the answer"
    case .synReceived, .newSynReceived: "has answered a SYN, waits for the ACK"
    case .established: "connected: both ends may send"
    case .finWait1: "has sent FIN, waits for its ACK"
    case .finWait2: "has sent FIN; the peer may still send"
    case .closing: "both sent FIN, neither has the ACK yet"
    case .closeWait: "the peer has sent FIN; this end may still send"
    case .lastAck: "has sent FIN as well, waits for its ACK"
    case .timeWait: "over; kept a while for packets that come late"
    }
  }
}

/// The colours of a picture, on light and on dark paper. Text in each has a contrast of 4.5 to 1 or more with what it may
/// stand on. See: Web Content Accessibility Guidelines 2.2, 1.4.3
enum Ink: String, CaseIterable {
  case paper, panel, rule, ink, words, quiet, bad, arrow
  case close, listen, opening, established, finished, left, waiting, other

  var light: String {
    switch self {
    case .paper: "#ffffff"
    case .panel: "#f4f6f8"
    case .rule: "#cfd6dd"
    case .ink: "#1c2128"
    case .words: "#3b434c"
    case .quiet: "#59636e"
    case .bad: "#b42318"
    case .arrow: "#2f3a46"
    case .close, .other: "#656d76"
    case .listen: "#6941c6"
    case .opening: "#8a5a00"
    case .established: "#18753c"
    case .finished: "#1259b8"
    case .left: "#b4440c"
    case .waiting: "#0e6a76"
    }
  }

  var dark: String {
    switch self {
    case .paper: "#0d1117"
    case .panel: "#161b22"
    case .rule: "#343b45"
    case .ink: "#eef2f6"
    case .words: "#c5cdd6"
    case .quiet: "#9aa4af"
    case .bad: "#ff9087"
    case .arrow: "#d3dae2"
    case .close, .other: "#98a1ab"
    case .listen: "#bd9ffa"
    case .opening: "#e3b341"
    case .established: "#5bd075"
    case .finished: "#7ab8ff"
    case .left: "#ffa56b"
    case .waiting: "#5fd0dc"
    }
  }
}

/// The style sheet that stands in every picture.
enum PictureStyle {
  /// A property with its colour twice: as it is on light paper, for programs that know nothing of variables, and as
  /// a variable, which a dark page and who embeds the picture may set.
  private static func paint(_ property: String, _ ink: Ink) -> String {
    "\(property):\(ink.light);\(property):var(--\(ink.rawValue))"
  }

  private static func variables(_ color: (Ink) -> String) -> String {
    "svg{" + Ink.allCases.map { "--\($0.rawValue):\(color($0))" }.joined(separator: ";") + "}"
  }

  static let sheet: String = {
    let mono =
      "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
    let sans = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',Arial,sans-serif"
    var rules = [
      variables(\.light), "@media (prefers-color-scheme:dark){\(variables(\.dark))}",
      "svg{color-scheme:light dark;\(paint("background", .paper))}",
      "text{font:13px \(sans);\(paint("fill", .words))}",
      ".paper{\(paint("fill", .paper))}", ".panel{\(paint("fill", .panel))}",
      ".fail{\(paint("fill", .bad))}",
      ".title{font-size:24px;font-weight:650;letter-spacing:-.2px;\(paint("fill", .ink))}",
      ".command{font:600 17px \(mono);\(paint("fill", .ink));white-space:pre}",
      ".crumbs,.here{\(paint("fill", .quiet))}", ".here{font-weight:650;\(paint("fill", .ink))}",
      ".number{font:600 12px \(mono);text-anchor:end;\(paint("fill", .quiet))}",
      ".call,.result,.fault{font:12.5px \(mono);\(paint("fill", .ink));white-space:pre}",
      ".call{font-weight:600}", ".result{\(paint("fill", .quiet))}",
      ".fault{font-weight:600;\(paint("fill", .bad))}",
      ".still{font:12.5px \(mono);\(paint("fill", .quiet));white-space:pre}",
      ".advice,.aside{font-size:12.5px;\(paint("fill", .quiet))}", ".aside{font-style:italic}",
      ".head{\(paint("fill", .paper));\(paint("stroke", .quiet));stroke-width:1.25}",
      ".foreign{stroke-dasharray:4 3}",
      ".name,.mid{font:600 12px \(mono);text-anchor:middle;\(paint("fill", .ink))}",
      ".address{font:10.5px \(mono);text-anchor:middle;\(paint("fill", .quiet))}",
      ".reminder,.other-name{font:600 11px \(mono);text-anchor:middle;\(paint("fill", .quiet))}",
      ".other-name{\(paint("fill", .ink))}",
      ".pill{fill:currentColor}", ".tag{\(paint("fill", .paper));stroke:currentColor;stroke-width:1.25}",
      ".on,.in{font:600 11px \(mono);text-anchor:middle;\(paint("fill", .paper))}", ".in{fill:currentColor}",
      ".slip{\(paint("fill", .paper));\(paint("stroke", .rule))}",
      ".remark{font:10.5px \(mono);text-anchor:middle;\(paint("fill", .words))}",
      ".bar{fill:currentColor}",
      ".hollow,.dashed,.dotted{\(paint("fill", .paper));stroke:currentColor;stroke-width:1.5}",
      ".dashed{stroke-dasharray:6 3}", ".dotted{stroke-dasharray:1.5 2.5}",
      ".thread{fill:none;\(paint("stroke", .quiet));stroke-width:1.5;stroke-dasharray:2 3}",
      ".cap{fill:none;\(paint("stroke", .ink));stroke-width:2;stroke-linecap:round}",
      ".arrow,.reset{fill:none;\(paint("stroke", .arrow));stroke-width:1.5}",
      ".tip,.resettip{\(paint("fill", .arrow))}", ".resettip{\(paint("fill", .bad))}",
      ".reset{\(paint("stroke", .bad));stroke-dasharray:5 3}",
      ".halo{fill:none;\(paint("stroke", .panel));stroke-width:6}",
      ".bare{\(paint("stroke", .paper))}",
      ".packet,.resetname{font:600 10.5px \(mono);text-anchor:middle;\(paint("fill", .arrow))}",
      ".resetname{\(paint("fill", .bad))}",
      ".rule{fill:none;\(paint("stroke", .rule))}", ".legend{font-size:12px;\(paint("fill", .quiet))}",
    ]
    for look in Look.allCases {
      guard let ink = Ink(rawValue: look.rawValue) else { continue }
      rules.append(".\(look.rawValue){\(paint("color", ink))}")
    }
    return rules.joined(separator: "\n") + "\n"
  }()
}
